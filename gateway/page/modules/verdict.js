/**
 * The verdict in big letters, how many were found, and where the time went.
 */

import { byId, element, paint, refill } from "./dom.js";
import { t } from "./language.js";

const SIGNS = { ok: "✓", ng: "✕", busy: "…", none: "–", failed: "?" };

/**
 * @param {"ok"|"ng"|"busy"|"none"|"failed"} state none: there is nothing to judge; failed: the service could not
 * @param {number} found boxes that pass
 * @param {boolean} isYours by other thresholds than the line's own
 * @param {{timings: Object<string, number>, roundTripMs: number}|null} spent milliseconds by stage
 */
export function writeVerdict(state, found, isYours, spent) {
  const judged = state === "ok" || state === "ng";
  const block = byId("verdict");
  block.dataset.state = state;
  refill(
    block,
    element(
      "p",
      { class: "letters" },
      element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[state]),
      element("strong", { id: "verdict-word" }, t(`verdict.${state}`)),
      element("span", { class: "meaning" }, t(`verdict.${state}.meaning`, { found })),
    ),
    judged && isYours ? element("p", { class: "yours" }, t("verdict.yours")) : null,
    spent ? timings(spent) : null,
  );
}

function timings({ timings: { total, ...stages }, roundTripMs }) {
  const known = Object.values(stages).reduce((sum, each) => sum + each, 0);
  const spent = { ...stages, other: Math.max(0, total - known), transport: Math.max(0, roundTripMs - total) };
  const bar = element("span", { class: "spent", "aria-hidden": "true" });
  const list = element("dl", { class: "timings", "aria-label": t("timings.label") });
  for (const [stage, milliseconds] of Object.entries(spent)) {
    bar.append(paint(element("span", { "data-stage": stage }), { share: String(milliseconds) }));
    list.append(
      element(
        "div",
        { "data-stage": stage },
        element("dt", {}, t(`timings.${stage}`)),
        element("dd", { class: "figure" }, figure(milliseconds)),
      ),
    );
  }
  list.append(
    element(
      "div",
      { "data-stage": "total" },
      element("dt", {}, t("timings.all")),
      element("dd", { class: "figure" }, figure(roundTripMs)),
    ),
  );
  return element("div", {}, bar, list);
}

function figure(milliseconds) {
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}
