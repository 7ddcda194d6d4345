/**
 * The dialog that asks for an API key, where the gateway requires one.
 */

import { byId } from "./dom.js";
import { onKeyNeeded } from "./service.js";

/** From now on a refused request has the person asked. */
export function startKey() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("key-dialog"));
  const input = /** @type {HTMLInputElement} */ (byId("key"));

  onKeyNeeded(
    (problem) =>
      new Promise((resolve) => {
        byId("key-said").textContent = problem?.detail ?? "";
        input.value = "";
        dialog.returnValue = "";
        dialog.addEventListener("close", () => resolve(dialog.returnValue || null), { once: true });
        dialog.showModal();
        input.focus();
      }),
  );
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close(input.value.trim());
    input.value = "";
  });
  byId("key-cancel").addEventListener("click", () => dialog.close());
}
