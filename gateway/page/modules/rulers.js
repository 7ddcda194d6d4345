/**
 * The rulers at the field's upper and left edge, in pixels of the picture.
 */

import { toPicture, toScreen } from "./view.js";

export const RULER = 22; // screen pixels
const APART = 64; // screen pixels between figures, at least

/**
 * @param {CanvasRenderingContext2D} context in screen pixels
 * @param {import("./view.js").View} view
 * @param {import("./view.js").Size} field
 * @param {import("./view.js").Point|null} pointer of the screen
 * @param {{ground: string, ink: string, mark: string}} colours
 */
export function drawRulers(context, view, field, pointer, colours) {
  context.fillStyle = colours.ground;
  context.fillRect(0, 0, field.width, RULER);
  context.fillRect(0, 0, RULER, field.height);
  context.fillStyle = context.strokeStyle = colours.ink;
  context.lineWidth = 1;
  context.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
  scale(context, view, field.width, "x");
  context.save();
  context.transform(0, 1, 1, 0, 0, 0); // the left ruler is the upper one with x and y exchanged
  scale(context, view, field.height, "y");
  context.restore();
  if (pointer) {
    context.fillStyle = colours.mark;
    context.fillRect(pointer.x, 0, 1, RULER);
    context.fillRect(0, pointer.y, RULER, 1);
  }
  context.fillStyle = colours.ground;
  context.fillRect(0, 0, RULER, RULER);
}

/** 1, 2 or 5 times a power of ten: the picture pixels between figures. */
export function step(scale) {
  const least = APART / scale;
  const power = 10 ** Math.floor(Math.log10(least));
  return Math.max(1, power * [1, 2, 5, 10].find((factor) => power * factor >= least));
}

function scale(context, view, length, axis) {
  const far = step(view.scale);
  const near = far / (far >= 5 ? 5 : 1);
  const first = toPicture(view, { x: RULER, y: RULER })[axis];
  const last = toPicture(view, { x: length, y: length })[axis];
  context.beginPath();
  for (let value = Math.ceil(first / near) * near; value <= last; value += near) {
    const at = Math.round(toScreen(view, { x: value, y: value })[axis]) + 0.5;
    const figure = Math.abs(value % far) < near / 2;
    context.moveTo(at, RULER);
    context.lineTo(at, RULER - (figure ? 9 : 4));
    if (figure) write(context, String(Math.round(value)), at + 3, axis);
  }
  context.stroke();
}

function write(context, text, at, axis) {
  if (axis === "x") {
    context.fillText(text, at, 10);
    return;
  }
  context.save(); // exchange back, then read upwards
  context.transform(0, 1, 1, 0, 0, 0);
  context.translate(10, at + context.measureText(text).width);
  context.rotate(-Math.PI / 2);
  context.fillText(text, 0, 0);
  context.restore();
}
