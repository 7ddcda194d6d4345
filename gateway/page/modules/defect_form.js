/**
 * The form that teaches a defect by words, or changes one. Nothing typed is lost by a fault or by a colleague's change.
 */

import { makeSigned } from "./actor.js";
import { nameOf } from "./catalog.js";
import { makeTrial } from "./defect_trial.js";
import { makeHistory, differences } from "./defect_history.js";
import { element } from "./dom.js";
import { t, translate } from "./language.js";
import { clearNotice, showNote, showProblem } from "./notice.js";
import { Problem } from "./service.js";

const SEVERITIES = ["critical", "major", "minor", "info"];
const STALE = 412; // somebody else was faster
const HAN = /\p{Script=Han}/u;
const FRESH = { score_threshold: null, minimum_size_px: 0, severity: "major", colour: "#d62728", enabled: true };

/**
 * @param {Object} about
 * @param {import("./catalog.js").Catalog} about.catalog
 * @param {import("./inspection.js").Inspection} about.inspection
 * @param {import("./findings.js").Findings} about.findings
 * @param {import("./readiness.js").Readiness} about.readiness
 * @param {string|null} about.id null: a new defect, whose id follows from its name
 * @param {import("./catalog.js").Defect|null} about.defect as it is now; null: new, or deleted
 * @param {string} about.words the first description of a new one
 * @param {AbortSignal} about.closed when the form is taken away
 * @param {() => void} about.onClose
 * @returns {HTMLElement}
 */
export function openForm({ catalog, inspection, findings, readiness, id, defect, words, closed, onClose }) {
  let base = defect; // what the next change builds on
  let saving = false;
  const spare = `defect_${Math.random().toString(36).slice(2, 8)}`; // nobody else's, now or of one that was deleted
  const empty = { names: { en: [], zh: [] }, descriptions: { en: [], zh: [] }, ...FRESH, id: id ?? "" };
  const learned = id !== null && readiness.knows(id);

  const description = element("textarea", {
    id: "form-description",
    rows: 3,
    "data-t-placeholder": "form.description.example",
  });
  const names = element("textarea", {
    id: "form-names",
    rows: 2,
    required: true,
    "data-t-placeholder": "form.names.example",
  });
  const severities = SEVERITIES.map((name) => element("input", { type: "radio", name: "severity", value: name }));
  const size = element("input", { id: "form-size", type: "number", min: 0, max: 65535, step: 1, required: true });
  const colour = element("input", { id: "form-colour", type: "color" });
  const enabled = element("input", { id: "form-enabled", type: "checkbox" });
  const ownId = element("input", {
    id: "form-id",
    pattern: "[a-z][a-z0-9_]{0,63}",
    maxlength: 64,
    disabled: id !== null,
    value: id ?? "",
    class: "figure",
  });
  const signed = makeSigned("form-actor", closed);
  const usual = () => (readiness.served ? readiness.threshold(id) : 0.5);
  const trial = makeTrial({ inspection, findings, words: () => askedFor(), usual, closed });

  function read() {
    const former = base ?? empty;
    return {
      id: id ?? (ownId.value || suggestedId()),
      names: byLanguage(names.value, former.names),
      descriptions: byLanguage(description.value, former.descriptions),
      score_threshold: trial.threshold,
      minimum_size_px: Number(size.value),
      severity: severities.find((radio) => radio.checked).value,
      colour: colour.value,
      enabled: enabled.checked,
    };
  }

  function fill(from) {
    description.value = [...from.descriptions.en, ...from.descriptions.zh].join("\n");
    names.value = [...from.names.en, ...from.names.zh].join("\n");
    for (const radio of severities) radio.checked = radio.value === from.severity;
    trial.setThreshold(from.score_threshold);
    size.value = String(from.minimum_size_px);
    colour.value = from.colour;
    enabled.checked = from.enabled;
    suggest();
  }

  /** What the service will ask the checkpoint: a learned class by its name, another by its first description. */
  function askedFor() {
    const { names: named, descriptions } = read();
    const described = [...descriptions.en, ...descriptions.zh];
    const all = learned || !described.length ? [...named.en, ...named.zh].slice(0, 1) : described;
    return all.filter(Boolean).slice(0, 8);
  }

  function suggestedId() {
    for (const each of idsFor(lines(names.value), spare)) if (!catalog.find(each)) return each;
  }

  function suggest() {
    if (id === null) ownId.placeholder = suggestedId();
    trial.follow();
  }

  /** Under the first id that no defect has or had; a colleague may take it meanwhile. */
  async function teach(written) {
    for (const each of idsFor(lines(names.value), spare)) {
      if (await catalog.isUsed(each)) continue;
      try {
        return await catalog.write({ ...written, id: each }, null);
      } catch (error) {
        if (error.status !== STALE) throw error;
      }
    }
  }

  async function save() {
    if (saving) return; // a second click
    saving = true;
    const written = read();
    const before = base;
    try {
      const isNumbered = id === null && !before && !ownId.value;
      const stored = await (isNumbered ? teach(written) : catalog.write(written, before?.version ?? null));
      clearNotice();
      onClose();
      const undo = { label: t("form.undo"), run: () => undoSave(stored, before) };
      showNote(t(before ? "form.saved" : "form.taught", { name: nameOf(stored), version: stored.version }), [undo]);
      inspection.run(); // words and threshold count from now on
    } catch (error) {
      await refused(error, written, (theirs) => {
        const keep = { label: t("form.keep_mine"), run: () => ((base = theirs), save()) };
        if (theirs) showConflict(theirs, written, keep);
        else showNote(t("form.gone"), [keep]);
      });
    } finally {
      saving = false;
    }
  }

  async function undoSave(stored, before) {
    await told(before ? catalog.write(before, stored.version) : catalog.remove(stored));
    inspection.run();
  }

  async function remove() {
    if (saving) return;
    saving = true;
    const gone = base;
    try {
      await catalog.remove(gone);
    } catch (error) {
      await refused(error, read(), async (theirs) => {
        const insist = { label: t("form.delete"), run: () => ((base = theirs), remove()) };
        if (theirs) return showConflict(theirs, read(), insist);
        await catalog.load();
        onClose();
        showNote(t("form.deleted", { name: nameOf(gone) }));
      });
      return;
    } finally {
      saving = false;
    }
    onClose();
    const undo = { label: t("form.undo"), run: () => told(catalog.write(gone, null)) };
    showNote(t("form.deleted", { name: nameOf(gone) }), [undo]);
  }

  /**
   * The service finds fault with it, or somebody was faster: then `overtaken` is given what there is now, or null. The
   * form stays as it was typed.
   */
  async function refused(error, written, overtaken) {
    if (!(error instanceof Problem)) throw error;
    showProblem(error);
    if (error.status !== STALE) return;
    try {
      const theirs = await catalog.read(written.id).catch((missing) => {
        if (missing.status === 404) return null;
        throw missing;
      });
      await overtaken(theirs);
    } catch (again) {
      showProblem(again);
    }
  }

  function showConflict(theirs, written, insist) {
    const take = { label: t("form.take_theirs"), run: () => ((base = theirs), fill(theirs), clearNotice()) };
    showNote(t("form.conflict"), [insist, take], differences(theirs, written));
  }

  const form = element(
    "form",
    { class: "form", onsubmit: (event) => (event.preventDefault(), save()) },
    element("h2", { "data-t": id === null ? "form.teach" : "form.edit" }),
    field("form-description", "form.description", description),
    trial.node,
    field("form-names", "form.names", names),
    element(
      "fieldset",
      { class: "severities" },
      element("legend", { "data-t": "form.severity" }),
      ...severities.map((radio) =>
        element("label", {}, radio, element("span", { "data-t": `severity.${radio.value}` })),
      ),
      element("p", { class: "hint", "data-t": "form.severity.hint" }),
    ),
    trial.thresholdNode,
    element(
      "div",
      { class: "pair" },
      field("form-size", "form.size", size),
      field("form-colour", "form.colour", colour),
      element("label", { class: "check" }, enabled, element("span", { "data-t": "form.enabled" })),
    ),
    element("div", { class: "pair" }, field("form-id", "form.id", ownId), field("form-actor", "form.actor", signed)),
    id === null ? null : makeHistory(() => catalog.history(id), fill),
    element(
      "p",
      { class: "choices actions" },
      element("button", {
        type: "submit",
        class: "strong",
        id: "form-save",
        "data-t": id === null ? "form.teach.save" : "form.save",
      }),
      element("button", { type: "button", id: "form-cancel", "data-t": "form.cancel", onclick: onClose }),
      element("span", { class: "spread" }),
      defect
        ? element("button", { type: "button", id: "form-delete", "data-t": "form.delete", onclick: remove })
        : null,
    ),
  );
  for (const typed of [description, names]) typed.addEventListener("input", suggest);
  fill(base ?? { ...empty, descriptions: byLanguage(words, empty.descriptions) });
  translate(form);
  if (learned)
    form.querySelector('[for="form-description"]').append(element("span", { class: "hint" }, ` ${t("form.learned")}`));
  return form;
}

async function told(change) {
  try {
    await change;
    clearNotice();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showProblem(error);
  }
}

function field(id, words, input) {
  return element("div", { class: "field-of" }, element("label", { for: id, "data-t": words }), input);
}

function lines(text) {
  return [
    ...new Set(
      text
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean),
    ),
  ];
}

/** Lines to languages: one with a Chinese character is Chinese; one that stood there before stays where it stood. */
function byLanguage(text, former) {
  const sorted = { en: [], zh: [] };
  for (const line of lines(text)) {
    const stood = ["en", "zh"].find((code) => former[code].includes(line));
    sorted[stood ?? (HAN.test(line) ? "zh" : "en")].push(line);
  }
  return sorted;
}

/** Ids from the first name without a Chinese character, else from `spare`: as it is, and with numbers behind it. */
function* idsFor(names, spare) {
  const plain = names
    .filter((name) => !HAN.test(name)) // of PCB划伤, pcb would be left
    .map((name) =>
      name
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, "_")
        .replace(/^[^a-z]+|_+$/g, ""),
    )
    .find(Boolean);
  const stem = (plain ?? spare).slice(0, 60);
  yield stem;
  for (let number = 2; ; number += 1) yield `${stem}_${number}`;
}
