/**
 * The field with the picture: zoom, pan, rulers, and the boxes over it. Knows no service and no thresholds.
 */

import { makeShape, placeShapes } from "./marks.js";
import { RULER, drawRulers } from "./rulers.js";
import { centre, fit, move, toPicture, toScreen, zoom } from "./view.js";

const FEW = 14; // marks that are labelled in full
const STEP = 1.25; // of the zoom buttons and keys
const PAN = 60; // screen pixels for an arrow key
const BARE = "#3a4442"; // ground of a picture that the browser cannot show

/** Events: `highlight` and `select` with `detail` the id of a mark, or null. */
export class Stage extends EventTarget {
  #section;
  #field;
  #canvas;
  #overlay;
  #picture = null;
  #view = { scale: 1, x: 0, y: 0 };
  #fitted = true;
  #marks = [];
  #shapes = new Map();
  #pointers = new Map();
  #pointer = null;
  #travelled = 0;
  #asked = false;

  /** @param {HTMLElement} section with tools and a field, as index.html has them */
  constructor(section) {
    super();
    this.#section = section;
    this.#field = section.querySelector(".field");
    this.#canvas = section.querySelector("canvas");
    this.#overlay = section.querySelector(".overlay");
    new ResizeObserver(() => this.#resized()).observe(this.#field);
    this.#listen();
  }

  /** @param {import("./picture.js").Picture|null} picture null: none is chosen */
  show(picture) {
    this.#picture = picture;
    this.#section.querySelector(".empty").hidden = picture !== null;
    this.#section.querySelector(".readout").textContent = "";
    this.fit();
  }

  /** Where pointers and keys arrive. */
  get field() {
    return this.#field;
  }

  /**
   * @param {{clientX: number, clientY: number}} place on the screen
   * @returns {import("./view.js").Point} of the picture, the nearest one
   */
  pointAt(place) {
    const { x, y } = toPicture(this.#view, this.#at(place));
    const within = (value, most) => Math.min(most, Math.max(0, value));
    return { x: within(x, this.#picture.width), y: within(y, this.#picture.height) };
  }

  /** @returns {import("./marks.js").Mark["box"]} the part of the picture that is in sight */
  inSight() {
    const { left, top, right, bottom } = this.#field.getBoundingClientRect();
    const one = this.pointAt({ clientX: left + RULER, clientY: top + RULER });
    const two = this.pointAt({ clientX: right, clientY: bottom });
    return { x1: one.x, y1: one.y, x2: two.x, y2: two.y };
  }

  /** @param {import("./marks.js").Mark[]} marks all that are to be seen, the best first */
  setMarks(marks) {
    const area = ({ box }) => (box.x2 - box.x1) * (box.y2 - box.y1);
    this.#marks = marks;
    const ordered = [...marks].sort((one, other) => area(other) - area(one)); // small ones lie on top
    this.#shapes = new Map(ordered.map((mark) => [mark.id, makeShape(mark, marks.length <= FEW)]));
    this.#overlay.replaceChildren(...this.#shapes.values());
    this.#draw();
  }

  /** @param {string|null} id the mark that stands out */
  highlight(id) {
    this.#overlay.toggleAttribute("data-one", id !== null && this.#shapes.has(id));
    for (const [each, node] of this.#shapes) node.toggleAttribute("data-on", each === id);
  }

  /** @param {string} id the mark to bring into the middle, near enough to be seen */
  reveal(id) {
    const mark = this.#marks.find((each) => each.id === id);
    if (!mark) return;
    const { x1, y1, x2, y2 } = mark.box;
    const near = Math.min(8, this.#size().width / (8 * Math.max(x2 - x1, y2 - y1, 1)));
    this.#look(
      centre(this.#picture, this.#size(), Math.max(this.#view.scale, near), { x: (x1 + x2) / 2, y: (y1 + y2) / 2 }),
    );
  }

  /** Shows the whole picture. */
  fit() {
    if (!this.#picture?.width) return this.#draw();
    this.#look(fit(this.#picture, this.#size(), RULER + 8), true);
  }

  /** @param {number} factor above 1: nearer; about the field's middle unless a point is given */
  zoom(factor, point = { x: this.#size().width / 2, y: this.#size().height / 2 }) {
    if (this.#picture?.width) this.#look(zoom(this.#view, factor, point, this.#picture, this.#size()));
  }

  /** One pixel of the picture on one of the screen. */
  actualSize() {
    this.zoom(1 / (this.#view.scale * devicePixelRatio));
  }

  #size() {
    return { width: this.#field.clientWidth, height: this.#field.clientHeight };
  }

  #look(view, fitted = false) {
    this.#view = view;
    this.#fitted = fitted;
    this.#field.toggleAttribute("data-moved", !fitted);
    this.#draw();
  }

  #resized() {
    if (this.#fitted) this.fit();
    else this.#draw();
  }

  #draw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#paint();
    });
  }

  #paint() {
    const field = this.#size();
    const ratio = devicePixelRatio;
    const canvas = this.#canvas;
    if (canvas.width !== Math.round(field.width * ratio) || canvas.height !== Math.round(field.height * ratio)) {
      canvas.width = Math.round(field.width * ratio);
      canvas.height = Math.round(field.height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, field.width, field.height);
    if (!this.#picture?.width) return;
    const { scale, x, y } = this.#view;
    const { bitmap, width, height } = this.#picture;
    context.imageSmoothingEnabled = scale * ratio < 2; // enlarged pixels stay what they are
    context.imageSmoothingQuality = "high";
    context.fillStyle = BARE;
    if (bitmap) context.drawImage(bitmap, x, y, width * scale, height * scale);
    else context.fillRect(x, y, width * scale, height * scale);
    const style = getComputedStyle(this.#field);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    drawRulers(context, this.#view, field, this.#pointer, {
      ground: colour("ruler"),
      ink: colour("ruler-ink"),
      mark: colour("ruler-mark"),
    });
    placeShapes(this.#shapes, this.#marks, this.#view, field);
    this.#readOut();
  }

  #readOut() {
    const at = this.#pointer && toPicture(this.#view, this.#pointer);
    const inside = at && at.x >= 0 && at.y >= 0 && at.x < this.#picture.width && at.y < this.#picture.height;
    const place = inside ? `x ${Math.floor(at.x)}  y ${Math.floor(at.y)}   ` : "";
    const percent = Math.round(this.#view.scale * devicePixelRatio * 100);
    this.#section.querySelector(".readout").textContent = `${place}${percent} %`;
  }

  #listen() {
    const field = this.#field;
    field.addEventListener("pointermove", (event) => this.#moved(event));
    field.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button") || !this.#picture) return;
      this.#pointers.set(event.pointerId, this.#at(event));
      this.#travelled = 0;
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      field.addEventListener(name, (event) => {
        this.#pointers.delete(event.pointerId);
        if (name === "pointerleave") this.#pointed(null);
      });
    }
    field.addEventListener("wheel", (event) => {
      // In the narrow layout the page itself scrolls, and the wheel is needed for that.
      if (!this.#picture || !(event.ctrlKey || matchMedia("(min-width: 960px)").matches)) return;
      event.preventDefault();
      this.zoom(2 ** (-event.deltaY / (event.ctrlKey ? 60 : 300)), this.#at(event));
    });
    field.addEventListener("dblclick", (event) => this.zoom(2, this.#at(event)));
    field.addEventListener("keydown", (event) => this.#key(event));
    field.addEventListener("pointerover", (event) => this.#tell("highlight", event));
    field.addEventListener("click", (event) => this.#travelled < 4 && this.#tell("select", event));
    const tools = {
      out: () => this.zoom(1 / STEP),
      fit: () => this.fit(),
      one: () => this.actualSize(),
      in: () => this.zoom(STEP),
    };
    for (const [value, use] of Object.entries(tools))
      this.#section.querySelector(`button[value="${value}"]`).addEventListener("click", use);
  }

  #tell(name, event) {
    const id = event.target.closest("[data-mark]")?.dataset.mark ?? null;
    this.dispatchEvent(new CustomEvent(name, { detail: id }));
  }

  #at(event) {
    const frame = this.#field.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  #pointed(point) {
    this.#pointer = point;
    if (this.#picture) this.#draw();
  }

  #moved(event) {
    const now = this.#at(event);
    this.#pointed(event.pointerType === "mouse" ? now : null);
    const before = this.#pointers.get(event.pointerId);
    if (!before || !this.#picture?.width) return;
    const others = [...this.#pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.#pointers.set(event.pointerId, now);
    this.#travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (this.#travelled >= 4) this.#field.setPointerCapture(event.pointerId);
    if (others.length === 1) {
      const apart = (point) => Math.hypot(point.x - others[0].x, point.y - others[0].y);
      this.zoom(apart(now) / Math.max(1, apart(before)), others[0]); // two fingers
    } else {
      this.#look(move(this.#view, now.x - before.x, now.y - before.y, this.#picture, this.#size()));
    }
  }

  #key(event) {
    if (event.target !== this.#field || !this.#picture?.width || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] }[event.key];
    if (pan) this.#look(move(this.#view, ...pan, this.#picture, this.#size()));
    else if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.actualSize();
    else return;
    event.preventDefault();
  }
}
