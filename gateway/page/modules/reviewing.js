/**
 * The review side of the panel, by the address's fragment (#review: the list, #review/ID: one inspection), and its
 * stage.
 */

import { byId } from "./dom.js";
import { nameOf } from "./catalog.js";
import { Drawing } from "./drawing.js";
import { languages, t } from "./language.js";
import { clearNotice, showNote, showProblem } from "./notice.js";
import { adopt, openPicture } from "./picture.js";
import { Review } from "./review.js";
import { missedId, openReviewForm } from "./review_form.js";
import { startKeys } from "./review_keys.js";
import { makeReviewList, when } from "./review_list.js";
import { Problem } from "./service.js";
import { Stage } from "./stage.js";
import { goTo } from "./tabs.js";

const LAST_DEFECT = "pcbd.review.defect"; // which was missed before, in this tab
const FALSE_COLOUR = "#b0b8b5";

/**
 * @param {Object} parts
 * @param {import("./catalog.js").Catalog} parts.catalog
 */
export function startReviewing({ catalog }) {
  const stage = new Stage(byId("review-stage"));
  const drawing = new Drawing(stage);
  const review = new Review(catalog);
  const list = makeReviewList(review, catalog, listed);
  const draw = /** @type {HTMLButtonElement} */ (byId("draw"));
  let form = null;
  let closing = new AbortController(); // of the inspection
  let formClosing = new AbortController(); // it is written again for another language
  let troubled = false; // whether the notice tells of something here
  const unsent = new Set(); // inspections that were left while they were being saved, until they are opened again
  byId("review").append(list);

  // ---- what is open ----

  async function show() {
    const [side, id = null] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (side !== "review") {
      drawing.set(false);
      return;
    }
    if (id === review.current?.request_id) return; // as it was left
    close();
    if (id === null) {
      await listed(load);
      return;
    }
    await told(open(id, closing.signal), { label: t("problem.again"), run: () => (close(), show()) });
  }

  async function listed(question) {
    await told(question(), { label: t("problem.again"), run: () => listed(question) });
  }

  async function load() {
    await review.load();
    readCatalog();
  }

  /** A class may have been taught since; where it cannot be read, the one that is held has to do. */
  async function readCatalog() {
    try {
      await catalog.load();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }

  function close() {
    closing.abort();
    closing = new AbortController();
    drawing.set(false);
    review.close();
  }

  async function open(id, signal) {
    await review.open(id, signal);
    readCatalog();
    if (unsent.delete(id)) troubled = true;
    const { answer, has_image: kept } = review.current;
    stage.show({ bitmap: null, ...answer.image }); // the boxes at once, their picture when it has come
    if (!kept) return;
    const picture = await openPicture(await review.picture(signal), id);
    signal.throwIfAborted();
    adopt(picture, answer.image);
    stage.show(picture);
  }

  function writeForm({ type }) {
    const former = type === "open" ? null : selected(); // in another language it is the same inspection
    form?.node.remove();
    form = null;
    formClosing.abort();
    list.hidden = review.current !== null;
    if (review.current) {
      const onSelect = (mark, near) => (stage.highlight(mark), near && mark && stage.reveal(mark));
      const { signal: closed } = (formClosing = new AbortController());
      form = openReviewForm({ review, catalog, onSave: save, onSkip: skip, onKeys, onSelect, closed });
      byId("review").append(form.node);
      form.select(former ?? review.visibleBoxes[0]?.id ?? null);
      if (type === "open") byId("panel").scrollTo({ top: 0 });
    } else stage.show(null);
    byId("review-name").textContent = review.current?.request_id ?? "";
    writeMarks();
  }

  function writeMarks() {
    draw.disabled = !review.current?.has_image || !catalog.defects.length; // a missed defect is one of the catalog
    stage.setMarks(review.current ? [...boxMarks(review), ...missedMarks(review, catalog)] : []);
    stage.highlight(byId("review").querySelector(".judged[data-on]")?.dataset.mark ?? null);
  }

  // ---- what is said ----

  async function save() {
    if (review.saving) return;
    const { judgements, missed, complete, comment } = review.draft;
    if (!Object.keys(judgements).length && !missed.length && !complete && !comment.trim()) {
      showNote(t("review.unsaid"));
      troubled = true;
      return;
    }
    const { request_id: id } = review.current;
    const { signal: left } = closing;
    const stopping = new AbortController();
    const signal = AbortSignal.any([left, stopping.signal]);
    const stop = { label: t("problem.stop"), run: () => (stopping.abort(), clearNotice()) };
    const onWait = (problem, waiting) => {
      showProblem(problem, { waiting, choices: [stop] });
      troubled = true;
    };
    const saving = review.save(signal, onWait);
    if (!(await told(saving, { label: t("problem.again"), run: save }))) {
      if (left.aborted) {
        unsent.add(id);
        clear();
      }
      return;
    }
    const saved = await saving;
    if (saved === "all") {
      if (!byId("review").hidden) await told(goOn(true));
      return;
    }
    if (saved === "part") showNote(t("review.unsent"));
    else showOvertaken(review.current.feedback);
    troubled = true;
  }

  function showOvertaken({ actor, at }) {
    showNote(t("review.overtaken", { actor: actor || "–", at: when(at) }), [
      { label: t("review.overtaken.mine"), run: () => (review.insist(), save()) },
      { label: t("review.overtaken.theirs"), run: () => (review.giveWay(), clearNotice()) },
    ]);
  }

  async function goOn(saved) {
    const id = await review.following();
    if (byId("review").hidden) return; // they went elsewhere meanwhile
    goTo(id === null ? "review" : `review/${encodeURIComponent(id)}`);
    byId("spoken").textContent = saved ? t("review.saved") : "";
    if (id === null) showNote(t("review.last"));
  }

  function skip() {
    told(goOn(false));
  }

  /** Takes the notice away, or has it tell of a review that perhaps only this tab has. */
  function clear() {
    troubled = false;
    const id = [...unsent].at(-1);
    if (id === undefined) clearNotice();
    else {
      const back = { label: t("review.back_to_it"), run: () => goTo(`review/${encodeURIComponent(id)}`) };
      showNote(t("review.not_sent", { id }), [back]);
    }
  }

  /** @returns {Promise<boolean>} whether it was done; a problem is told, with what can be done */
  async function told(work, ...choices) {
    try {
      await work;
      if (troubled) clear();
      return true;
    } catch (error) {
      if (error.name === "AbortError") return false; // something else took its place
      if (!(error instanceof Problem)) throw error;
      showProblem(error, { choices });
      troubled = true;
      return false;
    }
  }

  // ---- drawing what was missed ----

  draw.addEventListener("click", () => drawing.set(!drawing.active));
  drawing.addEventListener("change", () => {
    draw.setAttribute("aria-pressed", String(drawing.active));
    byId("drawing-hint").hidden = !drawing.active;
  });
  drawing.addEventListener("drawn", ({ detail: box }) => {
    const former = sessionStorage.getItem(LAST_DEFECT);
    const defect = catalog.find(former)?.id ?? catalog.defects[0].id;
    review.addMissed({ defect, box, description: "" });
    const id = missedId(review.draft.missed.length - 1);
    form.select(id);
    byId("review").querySelector(`[data-mark="${id}"] select`).focus();
  });
  byId("review").addEventListener("change", ({ target }) => {
    if (target.matches("[data-missed] select")) sessionStorage.setItem(LAST_DEFECT, target.value);
  });

  const onKeys = startKeys(
    {
      j: () => form.step(1),
      k: () => form.step(-1),
      r: () => form.judge("right"),
      f: () => form.judge("false"),
      m: () => drawing.set(!draw.disabled),
      c: () => review.say({ complete: !review.draft.complete }),
      n: skip,
      Enter: save,
      Escape: () => (drawing.active ? drawing.set(false) : goTo("review")),
    },
    () => form !== null && !byId("review").hidden,
  );

  stage.addEventListener("highlight", ({ detail }) => stage.highlight(detail ?? selected()));
  stage.addEventListener("select", ({ detail }) => detail && form?.select(detail, true));
  const selected = () => byId("review").querySelector(".judged[data-on]")?.dataset.mark ?? null;
  review.addEventListener("open", writeForm);
  for (const name of ["boxes", "draft"]) review.addEventListener(name, writeMarks);
  languages.addEventListener("change", writeForm);
  catalog.addEventListener("change", () => {
    form?.rename();
    writeMarks();
  });
  addEventListener("hashchange", show);
  show();
}

/** @param {Review} review @returns {import("./marks.js").Mark[]} */
function boxMarks(review) {
  return review.visibleBoxes.map(({ id, score, box, outlines, number, group }) => {
    const judgement = review.draft.judgements[id];
    const tag = `${{ right: "✓ ", false: "✕ " }[judgement] ?? ""}${group.code}${number}`;
    const colour = judgement === "false" ? FALSE_COLOUR : group.colour;
    const dash = judgement === "false" ? "2 4" : group.dash;
    return { id, tag, label: `${tag} ${group.name} ${score.toFixed(2)}`, box, outlines, colour, fill: colour, dash };
  });
}

/** @param {Review} review @param {import("./catalog.js").Catalog} catalog @returns {import("./marks.js").Mark[]} */
function missedMarks(review, catalog) {
  return review.draft.missed.map(({ defect, box }, index) => {
    const known = catalog.find(defect);
    const colour = known?.colour ?? FALSE_COLOUR;
    const label = `+${index + 1} ${known ? nameOf(known) : defect}`;
    return { id: missedId(index), tag: `+${index + 1}`, label, box, outlines: [], colour, fill: colour, dash: "" };
  });
}
