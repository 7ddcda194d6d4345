/**
 * The second side of the panel: the list of defects, and the form for one of them, by the address's fragment
 * (#defects, #defects/new, #defects/ID).
 */

import { nameOf } from "./catalog.js";
import { openForm } from "./defect_form.js";
import { byId, element, paint } from "./dom.js";
import { language, languages, t, translate } from "./language.js";
import { showNote, showProblem } from "./notice.js";
import { Problem } from "./service.js";
import { goTo } from "./tabs.js";

const NEW = "new";
const STALE = 412; // somebody else was faster

/**
 * @param {Object} parts
 * @param {import("./catalog.js").Catalog} parts.catalog
 * @param {import("./inspection.js").Inspection} parts.inspection
 * @param {import("./findings.js").Findings} parts.findings
 * @param {import("./readiness.js").Readiness} parts.readiness
 */
export function startDefects({ catalog, inspection, findings, readiness }) {
  const root = byId("defects");
  const list = element("ul", { class: "defects" });
  const place = element("div");
  const hint = element("p", { class: "hint", "data-t": "defects.hint" });
  root.append(hint, list, place);
  translate(root);
  let open = null; // the place whose form stands there; it stays, as it was left, until it is closed or another opened
  let closing = new AbortController();
  let words = "";
  let isFresh = false; // whether a change has just read the catalog, or tried to

  function write() {
    list.replaceChildren(...catalog.defects.map((defect) => row(catalog, defect)));
  }

  function close() {
    open = null;
    closing.abort();
    place.replaceChildren();
  }

  function onClose() {
    close();
    isFresh = true;
    goTo("defects");
  }

  async function show() {
    const [side, id = null] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (side !== "defects") {
      inspection.endTrial();
      return;
    }
    hint.hidden = list.hidden = id !== null;
    place.hidden = id === null;
    if (id === null) {
      inspection.endTrial();
      if (!isFresh) catalog.load().catch(tell); // as it is by now
      isFresh = false;
      return;
    }
    if (id === open) return;
    close();
    open = id;
    const { signal: closed } = (closing = new AbortController());
    try {
      const defect = id === NEW ? null : await found(catalog, id);
      if (closed.aborted) return;
      const about = { catalog, inspection, findings, readiness, defect, words, closed };
      place.append(openForm({ ...about, id: id === NEW ? null : id, onClose }));
      byId("form-description").focus();
    } catch (error) {
      if (!closed.aborted) close();
      tell(error);
    }
  }

  byId("teach").addEventListener("click", () => {
    words = byId("word").value.trim() || (inspection.prompts.at(-1) ?? "");
    goTo(`defects/${NEW}`);
  });
  catalog.addEventListener("change", write);
  languages.addEventListener("change", write);
  addEventListener("hashchange", show);
  write();
  show();
}

/** @returns {Promise<import("./catalog.js").Defect|null>} null: deleted, its history is still there */
async function found(catalog, id) {
  try {
    return await catalog.read(id);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    await catalog.history(id); // 404 again if there never was one
    return null;
  }
}

function row(catalog, defect) {
  const other = language() === "zh" ? defect.names.en[0] : defect.names.zh[0];
  const toggle = element("button", {
    type: "button",
    role: "switch",
    class: "switch",
    "aria-checked": String(defect.enabled),
    "aria-label": t("defects.enabled", { name: nameOf(defect) }),
    title: t(defect.enabled ? "defects.on" : "defects.off"),
  });
  toggle.addEventListener("click", async () => {
    toggle.disabled = true;
    try {
      await catalog.change(defect, { enabled: !defect.enabled });
    } catch (error) {
      tell(error);
      toggle.disabled = false;
      if (error.status === STALE) catalog.load().catch(tell);
    }
    byId("defects")
      .querySelector(`[data-defect="${CSS.escape(defect.id)}"] .switch`)
      ?.focus();
  });
  const threshold = defect.score_threshold === null ? t("defects.auto") : defect.score_threshold.toFixed(2);
  const link = element(
    "a",
    { href: `#defects/${encodeURIComponent(defect.id)}` },
    element("strong", {}, nameOf(defect)),
    other && other !== nameOf(defect) ? element("span", { class: "other" }, other) : null,
    element(
      "span",
      { class: "facts" },
      element("span", { class: "severity", "data-severity": defect.severity }, t(`severity.${defect.severity}`)),
      ` · ${t("defects.threshold", { threshold })}`,
      defect.minimum_size_px ? ` · ≥ ${defect.minimum_size_px} px` : null,
    ),
  );
  const colour = paint(element("span", { class: "colour", "aria-hidden": "true" }), { colour: defect.colour });
  return element("li", { "data-defect": defect.id, "data-off": !defect.enabled }, colour, link, toggle);
}

function tell(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === STALE) showNote(t("defects.stale"));
  else showProblem(error);
}
