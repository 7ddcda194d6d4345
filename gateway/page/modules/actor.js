/**
 * Who signs what is changed and judged, for the history; the same on every side of the panel, and on the next visit.
 */

const ACTOR = "pcbd.actor";

/** @returns {string} empty: nobody in particular */
export function actor() {
  return localStorage.getItem(ACTOR) ?? "";
}

/** @param {string} name */
export function setActor(name) {
  localStorage.setItem(ACTOR, name.trim());
}

/** @returns {Object<string, string>} the header that carries the name */
export function signature() {
  // A header carries bytes, here those of UTF-8.
  const name = [...new TextEncoder().encode(actor())].map((byte) => String.fromCharCode(byte)).join("");
  return name ? { "X-Actor": name } : {};
}
