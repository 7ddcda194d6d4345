/**
 * Every change of a defect: who, when, what; and an earlier state brought back into the form.
 */

import { element, refill } from "./dom.js";
import { language, t, translate } from "./language.js";
import { Problem } from "./service.js";

const FIELDS = ["names", "descriptions", "score_threshold", "minimum_size_px", "severity", "colour", "enabled"];

/**
 * @param {() => Promise<import("./catalog.js").Change[]>} read
 * @param {(defect: import("./catalog.js").Defect) => void} onRestore
 * @returns {HTMLElement} reads when it is opened
 */
export function makeHistory(read, onRestore) {
  const list = element("ol", { class: "changes" });
  const details = element("details", { id: "form-history" }, element("summary", { "data-t": "history.title" }), list);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      list.replaceChildren(...(await read()).map((change) => entry(change, onRestore)));
      translate(list);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      list.replaceChildren(element("li", {}, `${error.title} ${error.detail}`));
    }
  });
  return details;
}

function entry(change, onRestore) {
  const { version, at, actor, before, after } = change;
  const when = new Intl.DateTimeFormat(language() === "zh" ? "zh-CN" : "en-GB", {
    dateStyle: "medium",
    timeStyle: "short",
  });
  const head = element(
    "p",
    {},
    element("strong", { class: "figure" }, `v${version}`),
    ` ${when.format(new Date(at))} · ${actor} `,
  );
  const state = after ?? before;
  const restore = element("button", { type: "button", "data-t": "history.restore", onclick: () => onRestore(state) });
  const what = before === null ? "history.made" : after === null ? "history.deleted" : null;
  const item = element("li", {});
  refill(item, head, what ? element("p", { "data-t": what }) : differences(before, after), restore);
  return item;
}

/**
 * @param {import("./catalog.js").Defect} before
 * @param {import("./catalog.js").Defect} after
 * @returns {HTMLElement} the fields that differ, with both values
 */
export function differences(before, after) {
  const written = (defect, name) => (name === "severity" ? t(`severity.${defect[name]}`) : write(defect[name]));
  const differing = FIELDS.filter((name) => written(before, name) !== written(after, name));
  return element(
    "dl",
    { class: "differences" },
    ...differing.map((name) =>
      element(
        "div",
        {},
        element("dt", { "data-t": `field.${name}` }),
        element("dd", {}, element("del", {}, written(before, name)), " ", element("ins", {}, written(after, name))),
      ),
    ),
  );
}

function write(value) {
  if (value === null) return t("defects.auto");
  if (typeof value === "boolean") return t(value ? "defects.on" : "defects.off");
  if (typeof value === "object") return [...value.en, ...value.zh].join(" / ") || "–";
  return String(value);
}
