/**
 * How often the board is looked at: once, or from afar and from near, as a line asks with `magnification`.
 */

import { byId } from "./dom.js";

const KEPT = "pcbd.looks"; // in this tab, so that reloading loses nothing

/** @param {import("./inspection.js").Inspection} inspection */
export function startLooks(inspection) {
  const choice = /** @type {HTMLSelectElement} */ (byId("looks"));
  choice.value = sessionStorage.getItem(KEPT) ?? choice.value;
  if (choice.selectedIndex < 0) choice.selectedIndex = 0; // kept by a page that had another choice
  choice.addEventListener("change", () => {
    sessionStorage.setItem(KEPT, choice.value);
    inspection.setMagnification(choice.value);
  });
  inspection.setMagnification(choice.value);
}
