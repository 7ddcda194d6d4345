/**
 * The inspection under way: a picture, words, and what the service said of them. No element of the page is touched.
 */

import { adopt } from "./picture.js";
import { Problem, askPatiently, detect } from "./service.js";

const LEAST_SCORE = 0.05; // asked for once, so that the threshold can be moved without asking again

/**
 * Events: `picture`, `prompts`, `progress` (begun, waiting, failed or ended) and `answer`.
 * A fault never takes away the picture, the words or the answer to these words.
 */
export class Inspection extends EventTarget {
  /** @type {import("./picture.js").Picture|null} */
  picture = null;
  /** @type {string[]} */
  prompts = [];
  /** The parameter of POST /detect: a number, or a JSON list of looks. */
  magnification = "1";
  /** What POST /detect answered. @type {Object|null} */
  answer = null;
  /** The prompts that the answer is for. @type {string[]} */
  asked = [];
  /** Milliseconds from sending to the whole answer. */
  roundTripMs = 0;
  busy = false;
  /** Why there is no answer, or not yet. @type {Problem|null} */
  problem = null;
  /** Seconds until the next try, or null. @type {number|null} */
  waiting = null;
  /** Words that are tried for a while instead of the prompts. @type {string[]|null} */
  trial = null;
  #before = null; // the trial: the answer and what it was for
  #running = new AbortController();
  #thresholds;

  /** @param {() => number[]} thresholds of the service that are known already: they save asking twice */
  constructor(thresholds) {
    super();
    this.#thresholds = thresholds;
  }

  /** @param {import("./picture.js").Picture} picture */
  setPicture(picture) {
    this.picture = picture;
    this.answer = this.#before = null;
    this.#tell("picture");
    this.run();
  }

  /** @param {string[]} prompts */
  setPrompts(prompts) {
    this.prompts = prompts;
    this.#tell("prompts");
    this.run();
  }

  /** @param {string} magnification */
  setMagnification(magnification) {
    this.magnification = magnification;
    this.answer = this.#before = null;
    this.run();
  }

  /** @param {string[]} words looked for in the same picture until `endTrial` */
  startTrial(words) {
    if (!this.trial && this.answer && this.asked === this.prompts)
      this.#before = { answer: this.answer, asked: this.asked, roundTripMs: this.roundTripMs };
    this.trial = words;
    this.run();
  }

  /** Goes back to the prompts and to the answer to them. */
  endTrial() {
    if (!this.trial) return;
    const before = this.#before;
    this.trial = this.#before = null;
    this.stop();
    this.answer = null;
    if (!before) {
      this.run();
      return;
    }
    Object.assign(this, before);
    this.#tell("answer");
  }

  /** Asks the service, for all that its own thresholds let pass and more; a question under way is given up. */
  async run() {
    this.#running.abort();
    if (!this.picture) return;
    const running = (this.#running = new AbortController());
    const { picture } = this;
    const prompts = this.trial ?? this.prompts;
    this.#progress({ busy: true });
    try {
      const { answer, roundTripMs } = await askPatiently(
        async () => {
          const known = Math.min(LEAST_SCORE, ...this.#thresholds());
          const first = await this.#detect(prompts, known, running.signal);
          const least = Math.min(...first.answer.understood.map(({ usual_threshold: usual }) => usual));
          return least < known ? await this.#detect(prompts, least, running.signal) : first; // a canary's, say
        },
        running.signal,
        (problem, seconds) => this.#progress({ busy: true, problem, waiting: seconds }),
      );
      Object.assign(this, { answer, roundTripMs, asked: prompts });
      adopt(picture, answer.image);
      this.#progress({});
      this.#tell("answer");
    } catch (error) {
      if (running.signal.aborted) return; // another question took its place, or nobody wants to wait
      if (!(error instanceof Problem)) throw error;
      this.#forgetOthers();
      this.#progress({ problem: error });
    }
  }

  async #detect(prompts, least, signal) {
    const sent = performance.now();
    const answer = await detect(this.picture.blob, prompts, this.magnification, least, signal);
    return { answer, roundTripMs: performance.now() - sent };
  }

  /** Gives up the question under way. */
  stop() {
    this.#running.abort();
    this.#forgetOthers();
    this.#progress({});
  }

  /** An answer to other words than those that stand there now would be taken for theirs. */
  #forgetOthers() {
    if (this.asked !== (this.trial ?? this.prompts)) this.answer = null;
  }

  #progress({ busy = false, problem = null, waiting = null }) {
    Object.assign(this, { busy, problem, waiting });
    this.#tell("progress");
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}
