/**
 * One inspection under review: its boxes to be called right or false, what was missed, and the rest that is said of it.
 */

import { makeSigned } from "./actor.js";
import { nameOf } from "./catalog.js";
import { element, paint } from "./dom.js";
import { t, translate } from "./language.js";
import { swatch } from "./results.js";
import { facts, when } from "./review_list.js";

const STEP = 2; // picture pixels for an arrow key
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/**
 * @param {Object} about
 * @param {import("./review.js").Review} about.review with an inspection open
 * @param {import("./catalog.js").Catalog} about.catalog
 * @param {() => void} about.onSave
 * @param {() => void} about.onSkip
 * @param {() => void} about.onKeys shows the keys
 * @param {(id: string|null, near: boolean) => void} about.onSelect a box stands out; near: it was asked for
 * @param {AbortSignal} about.closed when the form is taken away
 * @returns {{node: HTMLElement, select: (id: string|null, near?: boolean) => void, step: (by: number) => void,
 *   judge: (judgement: import("./review.js").Judgement) => void, rename: () => void}}
 */
export function openReviewForm({ review, catalog, onSave, onSkip, onKeys, onSelect, closed }) {
  const { current: inspection } = review;
  const rows = new Map(); // by the id of the mark
  let selected = null;

  const boxes = element("div", { class: "judging", role: "list", "data-t-label": "stage.boxes" });
  const missed = element("div", { class: "judging", role: "list", "data-t-label": "review.missed" });
  const below = element("button", { type: "button", onclick: () => review.showAll() });
  const complete = element("input", { type: "checkbox", id: "review-complete" });
  const comment = element("textarea", { id: "review-comment", rows: 2, maxlength: 2000 });
  const signed = makeSigned("review-actor", closed);
  const save = element("button", { type: "submit", class: "strong", id: "review-save", "data-t": "review.save" });
  const judged = element("p", { class: "hint", id: "review-judged" });
  const progress = element("p", { class: "figure hint", id: "review-progress" });

  function select(id, near = false) {
    selected = rows.has(id) ? id : null;
    for (const [each, row] of rows) {
      row.toggleAttribute("data-on", each === selected);
      row.tabIndex = each === selected || (!selected && row === rows.values().next().value) ? 0 : -1;
    }
    if (near && selected) {
      rows.get(selected).focus({ preventScroll: true });
      rows.get(selected).scrollIntoView({ block: "nearest" });
    }
    onSelect(selected, near);
  }

  function step(by) {
    const ids = [...rows.keys()];
    const at = ids.indexOf(selected);
    const to = at < 0 ? (by > 0 ? 0 : ids.length - 1) : at + by;
    if (ids[to] !== undefined) select(ids[to], true);
  }

  /** Of the box that stands out, then on to the next that nobody has judged; the same again takes it back. */
  function judge(judgement) {
    const { judgements } = review.draft;
    const id = selected ?? rows.keys().next().value;
    if (!rows.get(id)?.matches("[data-box]")) return;
    const again = judgements[id] === judgement;
    review.judge(id, again ? null : judgement);
    const ids = [...rows.keys()].filter((each) => rows.get(each).matches("[data-box]"));
    const open = ids.slice(ids.indexOf(id) + 1).find((each) => !(each in judgements));
    select(again ? id : (open ?? id), true);
  }

  function boxRow({ id, score, box, number, group }) {
    const verdicts = ["right", "false"].map((judgement) =>
      element(
        "button",
        {
          type: "button",
          tabindex: -1, // the row's keys do it
          value: judgement,
          onclick: (event) => {
            event.stopPropagation();
            review.judge(id, review.draft.judgements[id] === judgement ? null : judgement);
            select(id);
          },
        },
        element("span", { "aria-hidden": "true" }, judgement === "right" ? "✓ " : "✕ "),
        element("span", { "data-t": `review.${judgement}` }),
      ),
    );
    const place = `x ${Math.round(box.x1)} y ${Math.round(box.y1)}`;
    const about = { role: "listitem", class: "judged", "data-box": true, "data-mark": id };
    const row = element(
      "div",
      { ...about, onclick: () => select(id, true), onfocus: () => selected !== id && select(id) },
      swatch(group),
      element("span", { class: "tag figure" }, `${group.code}${number}`),
      element(
        "span",
        {},
        element("span", { class: "name" }, group.name),
        element("span", { class: "figure place" }, place),
      ),
      element("span", { class: "figure score" }, score.toFixed(2)),
      element("span", { class: "verdicts", role: "group" }, ...verdicts),
    );
    row.dataset.label = t("review.row", { tag: `${group.code}${number}`, name: group.name, score: score.toFixed(2) });
    return row;
  }

  function classes() {
    return catalog.defects.map((each) => element("option", { value: each.id }, nameOf(each)));
  }

  function missedRow({ defect, description }, index) {
    const which = element("select", { "data-t-label": "review.missed.defect" }, ...classes());
    which.value = defect;
    which.addEventListener("change", () => review.changeMissed(index, { defect: which.value }));
    const words = element("input", {
      value: description,
      maxlength: 400,
      "data-t-label": "review.missed.description",
      "data-t-placeholder": "review.missed.description",
      oninput: (event) => review.changeMissed(index, { description: event.target.value }),
    });
    const remove = element(
      "button",
      {
        type: "button",
        "aria-label": t("review.missed.remove", { number: index + 1 }),
        onclick: (event) => (event.stopPropagation(), review.removeMissed(index)),
      },
      "×",
    );
    const id = missedId(index);
    const row = element(
      "div",
      {
        role: "listitem",
        class: "judged",
        "data-missed": true,
        "data-mark": id,
        "aria-label": t("review.missed.row", { number: index + 1 }),
        onclick: () => select(id),
        onfocus: () => selected !== id && select(id),
        onkeydown: (event) => event.target === row && adjust(event, index),
      },
      element("span", { class: "tag figure" }, `+${index + 1}`),
      which,
      words,
      remove,
    );
    return row;
  }

  /** Arrow keys move the box, with Shift they change its size; it stays within the picture. */
  function adjust(event, index) {
    const by = ARROWS[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const { width, height } = inspection.answer.image;
    const { box } = review.draft.missed[index];
    const moved = (near, far, change, room) => {
      if (event.shiftKey) return [near, Math.min(room, Math.max(near + STEP, far + change))];
      const kept = Math.min(room - far, Math.max(-near, change));
      return [near + kept, far + kept];
    };
    const [x1, x2] = moved(box.x1, box.x2, by[0], width);
    const [y1, y2] = moved(box.y1, box.y2, by[1], height);
    review.changeMissed(index, { box: { x1, y1, x2, y2 } });
  }

  /** Boxes and missed ones from anew: there are others than before. */
  function writeRows() {
    const held = boxes.contains(document.activeElement) || missed.contains(document.activeElement);
    missed.replaceChildren(...review.draft.missed.map(missedRow));
    translate(missed);
    writeBoxes();
    select(selected, held);
  }

  /** The catalog has other names or colours now; what is being typed or chosen stays. */
  function rename() {
    const held = boxes.contains(document.activeElement);
    for (const which of missed.querySelectorAll("select")) {
      const { value } = which;
      which.replaceChildren(...classes());
      which.value = value;
    }
    writeBoxes();
    select(selected);
    if (held) rows.get(selected)?.focus({ preventScroll: true });
  }

  function writeBoxes() {
    const seen = review.visibleBoxes;
    boxes.replaceChildren(...seen.map((each) => paint(boxRow(each), { colour: each.group.colour })));
    rows.clear();
    for (const row of [...boxes.children, ...missed.children]) rows.set(row.dataset.mark, row);
    const hidden = review.boxes.length - seen.length;
    below.hidden = hidden === 0;
    below.textContent = t("review.below", { hidden });
    nothing.hidden = seen.length > 0;
    translate(boxes);
    writeSaid();
  }

  /** What was said of each, and of the whole. */
  function writeSaid() {
    const { judgements } = review.draft;
    let done = 0;
    for (const [id, row] of rows) {
      if (!row.matches("[data-box]")) continue;
      const judgement = judgements[id];
      if (judgement) done += 1;
      row.dataset.judgement = judgement ?? "";
      row.setAttribute("aria-label", `${row.dataset.label}: ${t(`review.${judgement ?? "unjudged"}`)}`);
      for (const button of row.querySelectorAll("button"))
        button.setAttribute("aria-pressed", String(button.value === judgement));
    }
    complete.checked = review.draft.complete;
    if (comment.value !== review.draft.comment) comment.value = review.draft.comment;
    progress.textContent = t("review.progress", { done, all: boxes.childElementCount });
    save.disabled = review.saving;
    const { feedback } = inspection;
    const said = feedback?.id === review.draft.replaces ? "review.judged" : "review.judged.meanwhile";
    judged.textContent = feedback ? t(said, { actor: feedback.actor || "–", at: when(feedback.at) }) : "";
  }

  const nothing = element("p", { class: "hint", "data-t": "review.no_boxes" });
  const node = element(
    "form",
    { class: "form review-form", onsubmit: (event) => (event.preventDefault(), onSave()) },
    element(
      "div",
      { class: "heading" },
      element("a", { href: "#review", "data-t": "review.back" }),
      element("button", { type: "button", "data-t": "keys.title", onclick: onKeys }),
    ),
    element(
      "div",
      {},
      element("h2", {}, `${t(`verdict.${inspection.verdict}`)} · ${facts(inspection).join(" · ")}`),
      element("p", { class: "figure hint" }, `${inspection.request_id} · ${modelOf(inspection)}`),
      judged,
      inspection.has_image ? null : element("p", { class: "hint", "data-t": "review.no_picture" }),
    ),
    element("div", { class: "heading" }, element("h3", { "data-t": "review.boxes" }), progress),
    boxes,
    nothing,
    below,
    element("h3", { "data-t": "review.missed" }),
    element("p", { class: "hint", "data-t": inspection.has_image ? "review.missed.hint" : "review.missed.blind" }),
    missed,
    element("label", { class: "check" }, complete, element("span", { "data-t": "review.complete" })),
    field("review-comment", "review.comment", comment),
    field("review-actor", "form.actor", signed),
    element(
      "p",
      { class: "choices actions" },
      save,
      element("button", { type: "button", id: "review-skip", "data-t": "review.skip", onclick: onSkip }),
    ),
  );
  complete.addEventListener("change", () => review.say({ complete: complete.checked }));
  comment.addEventListener("input", () => review.say({ comment: comment.value }));
  review.addEventListener("boxes", writeRows, { signal: closed });
  review.addEventListener("draft", writeSaid, { signal: closed });
  translate(node);
  writeRows();
  return { node, select, step, judge, rename };
}

/** @param {number} index @returns {string} the id of the mark of a missed defect */
export function missedId(index) {
  return `missed-${index}`;
}

function modelOf({ model }) {
  return `${model.name} v${model.version}`;
}

function field(id, words, input) {
  return element("div", { class: "field-of" }, element("label", { for: id, "data-t": words }), input);
}
