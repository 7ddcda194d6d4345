/**
 * Drawing a box on a stage: by dragging, or by the keyboard, which puts one into the middle of what is in sight.
 */

import { element, paint } from "./dom.js";

const LEAST = 2; // picture pixels of a side; less is a click
const PART = 1 / 8; // of what is in sight, for a box by keyboard

/** Events: `drawn` with `detail` the box in picture pixels; `change` when it begins and ends. */
export class Drawing extends EventTarget {
  active = false;
  #stage;
  #rubber = element("div", { class: "rubber" });
  #begun = null;

  /** @param {import("./stage.js").Stage} stage */
  constructor(stage) {
    super();
    this.#stage = stage;
    this.#rubber.hidden = true;
    stage.field.append(this.#rubber);
    // Before the stage itself, which would move the picture.
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "click", "dblclick", "keydown"])
      stage.field.addEventListener(name, (event) => this.active && this.#heard(event), { capture: true });
  }

  /** @param {boolean} active */
  set(active) {
    this.active = active;
    this.#begun = null;
    this.#rubber.hidden = true;
    this.#stage.field.toggleAttribute("data-drawing", active);
    if (active) this.#stage.field.focus();
    this.dispatchEvent(new Event("change"));
  }

  #heard(event) {
    if (event.type === "keydown" && event.key !== "Enter") return; // the others move and zoom
    event.stopImmediatePropagation();
    if (event.type === "keydown") {
      event.preventDefault();
      this.#done(middle(this.#stage.inSight()));
    } else if (event.type === "pointerdown" && event.isPrimary) {
      this.#begun = event;
      this.#stage.field.setPointerCapture(event.pointerId);
    } else if (event.type === "pointermove" && this.#begun) {
      this.#show(event);
    } else if (event.type === "pointerup" && this.#begun) {
      const box = span(this.#stage.pointAt(this.#begun), this.#stage.pointAt(event));
      this.#rubber.hidden = true;
      this.#begun = null;
      if (Math.min(box.x2 - box.x1, box.y2 - box.y1) >= LEAST) this.#done(box);
    } else if (event.type === "pointercancel") {
      this.set(true);
    }
  }

  #show(event) {
    const frame = this.#stage.field.getBoundingClientRect();
    const corner = ({ clientX, clientY }) => ({ x: clientX - frame.left, y: clientY - frame.top });
    const { x1, y1, x2, y2 } = span(corner(this.#begun), corner(event));
    paint(this.#rubber, { left: `${x1}px`, top: `${y1}px`, wide: `${x2 - x1}px`, high: `${y2 - y1}px` });
    this.#rubber.hidden = false;
  }

  #done(box) {
    this.set(false);
    this.dispatchEvent(new CustomEvent("drawn", { detail: rounded(box) }));
  }
}

function span(one, other) {
  return {
    x1: Math.min(one.x, other.x),
    y1: Math.min(one.y, other.y),
    x2: Math.max(one.x, other.x),
    y2: Math.max(one.y, other.y),
  };
}

function middle({ x1, y1, x2, y2 }) {
  const half = Math.max(LEAST, Math.min(x2 - x1, y2 - y1) * PART) / 2;
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return { x1: x - half, y1: y - half, x2: x + half, y2: y + half };
}

function rounded(box) {
  return Object.fromEntries(Object.entries(box).map(([side, value]) => [side, Math.round(value * 100) / 100]));
}
