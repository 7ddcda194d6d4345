/**
 * The entry for words and the chips that stand for them.
 */

import { nameOf } from "./catalog.js";
import { byId, element } from "./dom.js";
import { languages, t } from "./language.js";
import { showNote } from "./notice.js";

const KEPT = "pcbd.prompts"; // in this tab, so that reloading loses nothing
const MOST = 64; // prompts of one request

/**
 * @param {import("./inspection.js").Inspection} inspection
 * @param {import("./catalog.js").Catalog} catalog
 */
export function startWords(inspection, catalog) {
  const entry = /** @type {HTMLInputElement} */ (byId("word"));
  const chips = byId("chips");

  function set(prompts) {
    sessionStorage.setItem(KEPT, JSON.stringify(prompts));
    inspection.setPrompts(prompts);
  }

  /** @returns {boolean} whether there is room for all of it */
  function add(text) {
    const prompts = [...new Set([...inspection.prompts, ...text.split("\n").map((line) => line.trim())])].filter(
      Boolean,
    );
    if (prompts.length > MOST) {
      showNote(t("words.most", { most: MOST, count: prompts.length }));
      return false;
    }
    if (prompts.length > inspection.prompts.length) set(prompts);
    return true;
  }

  function remove(prompt) {
    const index = inspection.prompts.indexOf(prompt);
    set(inspection.prompts.filter((each) => each !== prompt));
    (chips.querySelectorAll("button")[index] ?? entry).focus(); // the keyboard stays where it was
  }

  function write() {
    chips.replaceChildren(
      ...inspection.prompts.map((prompt) =>
        element(
          "li",
          {},
          element("span", {}, prompt),
          element(
            "button",
            { type: "button", "aria-label": t("words.remove", { prompt }), onclick: () => remove(prompt) },
            "×",
          ),
        ),
      ),
    );
    byId("words-hint").textContent = inspection.prompts.length ? "" : t("words.none");
    const names = catalog.defects.map((defect) => element("option", { value: nameOf(defect) }));
    byId("known-words").replaceChildren(...names);
  }

  byId("words").addEventListener("submit", (event) => {
    event.preventDefault();
    if (add(entry.value)) entry.value = "";
  });
  entry.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (!text.includes("\n")) return;
    event.preventDefault(); // a list of lines: one chip each
    add(text);
  });
  inspection.addEventListener("prompts", write);
  catalog.addEventListener("change", write);
  languages.addEventListener("change", write);
  write();
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  if (kept.length) inspection.setPrompts(kept);
}
