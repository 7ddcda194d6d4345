/**
 * The answer as the service gave it.
 */

import { byId } from "./dom.js";
import { t } from "./language.js";

/** @param {import("./inspection.js").Inspection} inspection */
export function startRaw(inspection) {
  const raw = /** @type {HTMLDetailsElement} */ (byId("raw"));
  const json = byId("raw-json");
  const text = () => JSON.stringify(inspection.answer, null, 2);

  function write() {
    raw.hidden = inspection.answer === null;
    json.textContent = raw.open && inspection.answer ? text() : "";
    byId("raw-copied").textContent = "";
  }

  raw.addEventListener("toggle", write);
  inspection.addEventListener("answer", write);
  inspection.addEventListener("picture", write);
  inspection.addEventListener("progress", () => {
    if (!inspection.answer) write(); // the one before no longer holds
  });
  byId("raw-copy").addEventListener("click", async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(text());
    else getSelection().selectAllChildren(json); // outside https and localhost: ready for Ctrl+C
    byId("raw-copied").textContent = t(navigator.clipboard ? "raw.copied" : "raw.selected");
  });
  write();
}
