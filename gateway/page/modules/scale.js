/**
 * A threshold on a scale from 0 to 1, with a tick for every candidate: one sees what moving it takes and gives.
 */

import { element, graphic } from "./dom.js";
import { t } from "./language.js";

/**
 * @param {Object} about
 * @param {string} about.label
 * @param {number[]} about.scores of all candidates
 * @param {number|null} about.own where the service's own threshold stands, or null if there are several
 * @param {number} about.value
 * @param {(value: number) => void} about.onInput
 * @returns {HTMLElement} with `set(value, passing)` to show another state
 */
export function makeScale({ label, scores, own, value, onInput }) {
  const range = element("input", { type: "range", min: 0, max: 1, step: 0.01, value, "aria-label": label });
  range.addEventListener("input", () => onInput(Number(range.value)));
  const ticks = graphic("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  ticks.append(...scores.map((score) => graphic("line", { x1: score * 1000, x2: score * 1000, y1: 3, y2: 17 })));
  if (own !== null) ticks.append(graphic("path", { class: "own", d: `M${own * 1000} 0v20` }));
  const output = element("output", { class: "figure" });
  const scale = element("div", { class: "scale" }, element("div", { class: "track" }, ticks, range), output);

  scale.set = (now, passing) => {
    range.value = String(now);
    output.textContent = now.toFixed(2);
    range.setAttribute(
      "aria-valuetext",
      t("thresholds.spoken", { value: now.toFixed(2), passing, all: scores.length }),
    );
    [...ticks.querySelectorAll("line")].forEach((line, index) => line.toggleAttribute("data-out", scores[index] < now));
  };
  return scale;
}
