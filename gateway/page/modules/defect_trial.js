/**
 * Trying words on the picture before they are saved, and the threshold that their candidates suggest.
 */

import { element } from "./dom.js";
import { languages, t, translate } from "./language.js";
import { makeScale } from "./scale.js";

/**
 * @param {Object} about
 * @param {import("./inspection.js").Inspection} about.inspection
 * @param {import("./findings.js").Findings} about.findings
 * @param {() => string[]} about.words what to try; the service will ask for the first
 * @param {() => number} about.usual the threshold where none is set
 * @param {AbortSignal} about.closed
 * @returns {Trial}
 *
 * @typedef {Object} Trial
 * @property {HTMLElement} node the button and what came of it
 * @property {HTMLElement} thresholdNode
 * @property {number|null} threshold null: as the checkpoint sets it
 * @property {(value: number|null) => void} setThreshold
 * @property {() => void} follow writes what can be tried after words or picture have changed
 */
export function makeTrial({ inspection, findings, words, usual, closed }) {
  const button = element("button", {
    type: "button",
    id: "form-try",
    "data-t": "trial.try",
    onclick: () => inspection.startTrial(words()),
  });
  const report = element("ul", { class: "trial", id: "form-trial" });
  const auto = element("input", { type: "checkbox", id: "form-auto" });
  const scaleAt = element("div");
  const trial = { threshold: null, setThreshold, follow, node: null, thresholdNode: null };
  let scale = null;
  let applied = []; // keys of the groups that have the trial's threshold

  /** The groups of the words that were tried; none before. */
  function tried() {
    return inspection.trial ? findings.groups : [];
  }

  function writeReport() {
    report.replaceChildren(
      ...tried().map((group) =>
        element(
          "li",
          {},
          element("span", {}, group.prompt),
          element(
            "span",
            { class: "figure" },
            t("trial.found", {
              found: findings.passing(group).length,
              best: (group.candidates[0]?.score ?? 0).toFixed(2),
            }),
          ),
        ),
      ),
      ...(tried().length > 1 ? [element("li", { class: "hint" }, t("trial.first"))] : []),
    );
    const scores = tried()[0]?.candidates.map(({ score }) => score) ?? [];
    scale?.set(trial.threshold ?? usual(), scores.filter((score) => score >= (trial.threshold ?? usual())).length);
  }

  function writeScale() {
    const scores = tried()[0]?.candidates.map(({ score }) => score) ?? [];
    scale = makeScale({
      label: t("trial.threshold"),
      scores,
      own: usual(),
      value: usual(),
      onInput: (value) => apply(value),
    });
    scaleAt.replaceChildren(scale);
    scaleAt.hidden = trial.threshold === null;
    writeReport();
  }

  function apply(value) {
    trial.threshold = value;
    for (const key of applied) findings.setSingle(key, null); // a trial's threshold is for the trial
    applied = tried().map(({ key }) => key);
    for (const key of applied) findings.setSingle(key, value ?? usual()); // not the catalog's, nor that of Inspect
    writeReport();
  }

  function setThreshold(value) {
    auto.checked = value === null;
    apply(value);
    writeScale();
  }

  function follow() {
    button.disabled = !inspection.picture || words().length === 0;
    hint.dataset.t = inspection.picture ? "trial.hint" : "trial.no_picture";
    translate(trial.node);
  }

  auto.addEventListener("change", () => setThreshold(auto.checked ? null : usual()));
  findings.addEventListener("groups", () => setThreshold(trial.threshold), { signal: closed });
  inspection.addEventListener("picture", follow, { signal: closed });
  languages.addEventListener("change", writeScale, { signal: closed });
  closed.addEventListener("abort", () => {
    inspection.endTrial();
    apply(null);
  });
  const hint = element("p", { class: "hint" });
  trial.node = element("div", { class: "try" }, button, hint, element("div", { role: "status" }, report));
  trial.thresholdNode = element(
    "fieldset",
    {},
    element("legend", { "data-t": "trial.threshold" }),
    element("label", { class: "check" }, auto, element("span", { "data-t": "trial.auto" })),
    scaleAt,
  );
  return trial;
}
