/**
 * Boxes on the picture: a line in the class's colour and dashes between two dark ones, and a plate with its name.
 *
 * @typedef {Object} Mark
 * @property {string} id
 * @property {string} tag what stands on it always, short
 * @property {string} label what stands on it where there is room, and when it stands out
 * @property {{x1: number, y1: number, x2: number, y2: number}} box picture pixels
 * @property {string} colour
 * @property {[number, number][][]} outlines of its pixels, picture pixels; none as a rule
 * @property {string} fill the colour within them
 * @property {string} dash as SVG's stroke-dasharray: a class is known without its colour, too
 */

import { graphic, paint } from "./dom.js";
import { t } from "./language.js";
import { Plates } from "./plates.js";
import { RULER } from "./rulers.js";
import { toScreen } from "./view.js";

const HIGH = 17; // screen pixels of a plate
// As styles/stage.css says.
const FONT = "600 11.5px ui-monospace, 'DejaVu Sans Mono', 'WenQuanYi Micro Hei', monospace";

const measuring = new OffscreenCanvas(1, 1).getContext("2d");

/**
 * @param {Mark} mark
 * @param {boolean} labelled whether its label stands there, not the tag alone
 * @returns {SVGElement} without a place yet
 */
export function makeShape(mark, labelled) {
  const about = { class: "mark", "data-mark": mark.id, "data-labelled": labelled, role: "img" };
  const shape = graphic(
    "g",
    { ...about, "aria-label": t("stage.box", { label: mark.label }) },
    graphic("path", { class: "pixels", d: mark.outlines.map((points) => `M${points.join("L")}Z`).join("") }),
    graphic("rect", { class: "casing" }),
    graphic("rect", { class: "line", "stroke-dasharray": mark.dash }),
    graphic("g", {}, plate(mark.tag, "tag"), plate(mark.label, "label")),
  );
  return paint(shape, { colour: mark.colour, fill: mark.fill });
}

/**
 * Puts shapes where their boxes lie now.
 * @param {Map<string, SVGElement>} shapes by id
 * @param {Mark[]} marks the most important first
 * @param {import("./view.js").View} view
 * @param {import("./view.js").Size} field
 */
export function placeShapes(shapes, marks, view, field) {
  const room = { left: RULER, top: RULER, right: field.width, bottom: field.height };
  const plates = new Plates(room, HIGH);
  for (const mark of marks) {
    const shape = shapes.get(mark.id);
    const one = toScreen(view, { x: mark.box.x1, y: mark.box.y1 });
    const two = toScreen(view, { x: mark.box.x2, y: mark.box.y2 });
    const [pixels, casing, line, plate] = shape.children;
    pixels.setAttribute("transform", `matrix(${view.scale} 0 0 ${view.scale} ${view.x} ${view.y})`);
    for (const rect of [casing, line]) {
      set(rect, { x: one.x, y: one.y, width: Math.max(1, two.x - one.x), height: Math.max(1, two.y - one.y) });
    }
    const text = shape.hasAttribute("data-labelled") ? mark.label : mark.tag;
    const { x, y } = plates.place({ x1: one.x, y1: one.y, x2: two.x, y2: two.y }, plateWidth(text));
    plate.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  }
}

function plate(text, name) {
  return graphic(
    "g",
    { class: name },
    graphic("rect", { class: "plate", width: plateWidth(text), height: HIGH }),
    graphic("text", { x: 4, y: HIGH - 5 }, text),
  );
}

const widths = new Map();

function plateWidth(text) {
  if (!widths.has(text)) {
    measuring.font = FONT;
    widths.set(text, Math.ceil(measuring.measureText(text).width) + 9);
  }
  return widths.get(text);
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value.toFixed(1));
}
