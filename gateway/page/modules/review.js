/**
 * The inspections that are worth a look, and the one that is being judged. No element of the page is touched here.
 *
 * @typedef {Object} Summary as GET /inspections gives it
 * @property {string} request_id
 * @property {number} number
 * @property {string} at
 * @property {string|null} board_id
 * @property {string|null} camera_id
 * @property {string|null} recipe
 * @property {"ok"|"ng"} verdict
 * @property {Object<string, number>} counts
 * @property {"near_threshold"|"random"|null} reason why it is worth a look
 * @property {boolean} has_image
 * @property {boolean} reviewed
 *
 * @typedef {"right"|"false"} Judgement of a box
 * @typedef {{defect: string, box: import("./marks.js").Mark["box"], description: string}} Missed
 *
 * @typedef {Object} Draft what is said of one inspection so far
 * @property {Object<string, Judgement>} judgements by the id of a detection
 * @property {Missed[]} missed
 * @property {boolean} complete the whole picture was looked at
 * @property {string} comment
 * @property {number|null} replaces the feedback that it was said in view of, by its id
 */

import { signature } from "./actor.js";
import { groupsOf } from "./findings.js";
import { Problem, ask, askForFile, askPatiently } from "./service.js";

const FILTER = "pcbd.review.filter"; // these in this tab, so that reloading loses nothing
const DRAFT = "pcbd.review.draft.";
const FIRST = { state: "open", reason: "near_threshold" }; // on a line most inspections are worth no look
const EMPTY = { judgements: {}, missed: [], complete: false, comment: "", replaces: null };
const CONFLICT = 409;

/**
 * Events: `list`, `open` (another inspection, or none), `boxes` (others are to be seen), `draft` (something was
 * said).
 */
export class Review extends EventTarget {
  /** @type {Summary[]} newest first */
  inspections = [];
  /** Where the list goes on, or null. @type {string|null} */
  next = null;
  filter = { ...FIRST, ...JSON.parse(sessionStorage.getItem(FILTER) ?? "{}") };
  /** A summary with `answer` and `feedback`. @type {Object|null} */
  current = null;
  /** @type {Draft} */
  draft = EMPTY;
  saving = false;
  #catalog;
  #all = false; // whether boxes below the line's threshold are to be seen
  #listing = new AbortController();

  /** @param {import("./catalog.js").Catalog} catalog */
  constructor(catalog) {
    super();
    this.#catalog = catalog;
  }

  /** @param {{state?: string, reason?: string, recipe?: string, defect?: string}} filter empty strings: any */
  async setFilter(filter) {
    this.filter = filter;
    sessionStorage.setItem(FILTER, JSON.stringify(filter));
    await this.load();
  }

  /** Reads the list from its beginning. */
  async load() {
    this.#listing.abort();
    const { signal } = (this.#listing = new AbortController());
    await this.#read([], {}, signal);
  }

  /** Reads on. */
  async more() {
    await this.#read(this.inspections, { before: this.next }, this.#listing.signal);
  }

  async #read(known, place, signal) {
    const chosen = Object.entries({ ...this.filter, ...place }).filter(([, value]) => value);
    try {
      const { content } = await ask(`inspections?${new URLSearchParams(chosen)}`, { signal });
      this.inspections = [...known, ...content.inspections];
      this.next = content.next;
    } catch (error) {
      if (signal.aborted) return; // another filter took its place
      throw error;
    }
    this.#tell("list");
  }

  /**
   * @param {string} id of an inspection; what was said of it before, here or by a colleague, comes with it
   * @param {AbortSignal} signal
   */
  async open(id, signal) {
    const { content } = await ask(path(id), { signal });
    const kept = sessionStorage.getItem(DRAFT + nameForGood(content));
    this.current = content;
    this.draft = kept ? JSON.parse(kept) : draftOf(content.feedback);
    this.#all = false;
    this.#tell("open");
  }

  close() {
    this.current = null;
    this.draft = EMPTY;
    this.#tell("open");
  }

  /** @returns {Promise<Blob>} the picture as it was sent */
  picture(signal) {
    return askForFile(`${path(nameForGood(this.current))}/image`, signal);
  }

  /** Every box with its group, the best first. */
  get boxes() {
    const { answer, thresholds } = this.current; // as they were then
    const groups = groupsOf(answer, [], this.#catalog, (index) => thresholds[index]);
    const boxes = groups.flatMap((group) => group.candidates.map((candidate) => ({ ...candidate, group })));
    return boxes.sort((one, other) => one.number - other.number);
  }

  /** Those that the line counts, and any that was judged; the page itself asks for fainter ones, too. */
  get visibleBoxes() {
    const { judgements } = this.draft;
    return this.boxes.filter(({ id, score, group }) => this.#all || score >= group.own || id in judgements);
  }

  showAll() {
    this.#all = true;
    this.#tell("boxes");
  }

  /** @param {string} id of a detection @param {Judgement|null} judgement null: takes it back */
  judge(id, judgement) {
    const { [id]: _, ...others } = this.draft.judgements;
    this.say({ judgements: judgement ? { ...others, [id]: judgement } : others });
  }

  /** @param {Missed} missed */
  addMissed(missed) {
    this.say({ missed: [...this.draft.missed, missed] });
    this.#tell("boxes");
  }

  /** @param {number} index @param {Partial<Missed>} fields */
  changeMissed(index, fields) {
    this.say({ missed: this.draft.missed.map((each, at) => (at === index ? { ...each, ...fields } : each)) });
  }

  /** @param {number} index */
  removeMissed(index) {
    this.say({ missed: this.draft.missed.filter((_, at) => at !== index) });
    this.#tell("boxes");
  }

  /** @param {Partial<Draft>} fields kept until they are saved */
  say(fields) {
    this.draft = { ...this.draft, ...fields };
    sessionStorage.setItem(DRAFT + nameForGood(this.current), JSON.stringify(this.draft));
    this.#tell("draft");
  }

  /**
   * Sends what is said, in place of what was said before; at each try what is said by then.
   * @param {AbortSignal} signal
   * @param {(problem: Problem, seconds: number) => void} onWait
   * @returns {Promise<"all"|"part"|"overtaken">} part: more was said while it was under way; overtaken: nothing was
   *   saved, since somebody else was first, with `current.feedback`
   */
  async save(signal, onWait) {
    const inspection = this.current; // it may be closed before the answer comes
    const id = nameForGood(inspection);
    let sent = this.draft;
    const question = () => {
      if (this.current === inspection) sent = this.draft;
      const headers = { "Content-Type": "application/json", ...signature() };
      return ask("feedback", { method: "POST", headers, body: bodyOf(id, sent), signal });
    };
    this.#saving(true);
    try {
      inspection.feedback = (await askPatiently(question, signal, onWait)).content;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== CONFLICT) throw error;
      inspection.feedback = (await ask(path(id), { signal })).content.feedback;
      if (!isSame(sent, draftOf(inspection.feedback))) return "overtaken"; // else it was a try whose answer was lost
    } finally {
      this.#saving(false);
    }
    for (const each of [inspection, ...this.inspections]) if (each.number === inspection.number) each.reviewed = true;
    const isAll = this.current !== inspection || this.draft === sent;
    if (this.current === inspection) this.insist(); // another save replaces this one
    if (isAll) sessionStorage.removeItem(DRAFT + id);
    return isAll ? "all" : "part";
  }

  /** What is said is meant to replace what stands by now. */
  insist() {
    this.say({ replaces: this.current.feedback?.id ?? null });
  }

  /** What stands by now takes the place of what is said here. */
  giveWay() {
    this.draft = draftOf(this.current.feedback);
    sessionStorage.removeItem(DRAFT + nameForGood(this.current));
    this.#tell("boxes");
  }

  /** @returns {Promise<string|null>} the inspection after the open one, by the list */
  async following() {
    if (!this.inspections.length) await this.load();
    const at = this.inspections.findIndex(({ number }) => number === this.current?.number);
    if (at + 1 === this.inspections.length && this.next) await this.more();
    return this.inspections[at + 1]?.request_id ?? null;
  }

  #saving(saving) {
    this.saving = saving;
    this.#tell("draft");
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}

/** @param {Summary} inspection @returns {string} its name still when another comes under the same request id */
function nameForGood({ request_id: id, number }) {
  return `${id.split("~")[0]}~${number}`;
}

function path(id) {
  return `inspections/${encodeURIComponent(id)}`;
}

/** @param {string} id @param {Draft} draft @returns {string} as POST /feedback takes it */
function bodyOf(id, { judgements, missed, complete, comment, replaces }) {
  return JSON.stringify({
    request_id: id,
    detections: Object.entries(judgements).map(([detection, judgement]) => ({ id: detection, judgement })),
    missed: missed.map(({ description, ...each }) => ({ ...each, ...(description.trim() ? { description } : {}) })),
    complete,
    ...(comment.trim() ? { comment } : {}),
    replaces,
  });
}

/** Whether two drafts say the same, whatever they replace. */
function isSame(one, other) {
  const [said, stands] = [one, other].map((draft) => bodyOf("", { ...draft, replaces: null }));
  return said === stands;
}

/** @returns {Draft} */
function draftOf(feedback) {
  if (!feedback) return EMPTY;
  const { detections, missed, complete, comment, id: replaces } = feedback;
  return {
    judgements: Object.fromEntries(detections.map(({ id, judgement }) => [id, judgement])),
    missed: missed.map((each) => ({ ...each, description: each.description ?? "" })),
    complete,
    comment: comment ?? "",
    replaces,
  };
}
