/**
 * The keys of a review, and the dialog that shows them.
 */

import { byId, element } from "./dom.js";
import { languages, t } from "./language.js";

const MOVES = ["j", "k"];
const FIELDS = "textarea, select, input:not([type=checkbox])";

/**
 * @param {Object<string, () => void>} uses by key, in the order in which they are shown
 * @param {() => boolean} wanted whether there is something to review now
 * @returns {() => void} shows the keys
 */
export function startKeys(uses, wanted) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("keys-dialog"));
  const show = () => dialog.showModal();
  const all = { ...uses, "?": show };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    const use = all[event.key.length === 1 ? event.key.toLowerCase() : event.key]; // caps lock or not
    const { target } = event;
    if (event.repeat && !MOVES.includes(event.key.toLowerCase())) return; // a key that is held judges once
    if (!use || !wanted() || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && target.matches(FIELDS)) leave(target);
    else if (takes(target, event.key)) return;
    else use();
    event.preventDefault();
  });

  function write() {
    byId("keys").replaceChildren(
      ...Object.keys(all).flatMap((key) => [
        element("dt", {}, element("kbd", {}, key)),
        element("dd", {}, t(`keys.${key === "?" ? "help" : key.toLowerCase()}`)),
      ]),
    );
  }
  languages.addEventListener("change", write);
  write();
  return show;
}

/** Whether an element uses the key itself: letters are typed into fields, Enter presses buttons. */
function takes(target, key) {
  return target.matches(FIELDS) || (key === "Enter" && target.matches("a, button, summary, input"));
}

/** Out of a field, so that the keys work again: to its row, where it has one. */
function leave(field) {
  const row = field.closest(".judged");
  if (row) row.focus();
  else field.blur();
}
