/**
 * Who signs what is changed and judged, for the history; the same on every side of the panel, and on the next visit.
 */

import { element } from "./dom.js";

const ACTOR = "pcbd.actor";

// The tab's own, for two may share a computer; a new tab begins with the last one that was given.
let current = sessionStorage.getItem(ACTOR) ?? localStorage.getItem(ACTOR) ?? "";

/** Tells with `change` of another name: what a form shows is what signs. */
const actors = new EventTarget();

/** @returns {string} empty: nobody in particular */
function actor() {
  return current;
}

/** @param {string} name */
function setActor(name) {
  current = name.trim();
  for (const storage of [sessionStorage, localStorage]) storage.setItem(ACTOR, current);
  actors.dispatchEvent(new Event("change"));
}

/**
 * A field for the name.
 * @param {string} id
 * @param {AbortSignal} closed when its form is taken away
 * @returns {HTMLInputElement}
 */
export function makeSigned(id, closed) {
  const field = element("input", { id, maxlength: 100, value: actor(), autocomplete: "name" });
  field.addEventListener("input", () => setActor(field.value));
  const follow = () => {
    if (field.value.trim() !== actor()) field.value = actor(); // else it is being typed here
  };
  actors.addEventListener("change", follow, { signal: closed });
  return field;
}

/** @returns {Object<string, string>} the header that carries the name */
export function signature() {
  // A header carries bytes, here those of UTF-8.
  const name = [...new TextEncoder().encode(actor())].map((byte) => String.fromCharCode(byte)).join("");
  return name ? { "X-Actor": name } : {};
}
