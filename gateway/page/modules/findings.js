/**
 * From an answer to what is shown: candidates by prompt, and which of them count. No element of the page is touched.
 *
 * @typedef {Object} Candidate one detection of the answer
 * @property {string} id
 * @property {number} score
 * @property {{x1: number, y1: number, x2: number, y2: number}} box
 * @property {[number, number][][]} outlines of its pixels, where they were asked for
 * @property {number} number 1 is the best of the whole answer; it stays when the threshold moves
 *
 * @typedef {Object} Group what one prompt found
 * @property {string} key tells it from the others
 * @property {string} prompt
 * @property {string} name for people
 * @property {string|null} asked the text that the checkpoint was asked, if it is not the prompt itself
 * @property {string} code a letter, so that a class is known without its colour
 * @property {string} colour
 * @property {string} fill of its pixels
 * @property {string} dash
 * @property {"info"|"minor"|"major"|"critical"|null} severity null: the words name no defect of the catalog
 * @property {number} own the threshold of the service
 * @property {number} minimumSize px, shorter side
 * @property {Candidate[]} candidates best first
 */

import { nameOf } from "./catalog.js";

// Okabe and Ito, 2008: told apart with any of the usual deficiencies of colour vision.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#b0b8b5"];
const DASHES = ["", "7 3", "2 3", "10 3 2 3", "14 4", "5 5"];

/**
 * @param {Object} answer of POST /detect
 * @param {string[]} prompts that were asked for; none: the whole catalog
 * @param {import("./catalog.js").Catalog} catalog
 * @param {(index: number) => number} own threshold of the service for an entry of `understood`
 * @returns {Group[]} in the order of the prompts, or of the catalog
 */
export function groupsOf(answer, prompts, catalog, own) {
  const { understood, detections } = answer;
  const entries = (prompt) => understood.filter((entry) => entry.prompt === prompt).length;
  const groups = understood.map(({ prompt, defect, asked: text, box_colour: box, mask_colour: mask }, index) => {
    const known = catalog.find(defect);
    const colour = box ?? known?.colour ?? COLOURS[index % COLOURS.length];
    return {
      key: key(prompt, defect),
      prompt,
      // The words that were asked, unless they stand for several defects or there were none.
      name: known && (!prompts.length || entries(prompt) > 1) ? nameOf(known) : prompt,
      asked: text === prompt ? null : text,
      code: code(index),
      colour,
      fill: mask ?? colour,
      dash: DASHES[index % DASHES.length],
      severity: known?.severity ?? null,
      own: own(index),
      minimumSize: known?.minimum_size_px ?? 0,
      candidates: [],
    };
  });
  const byKey = new Map(groups.map((group) => [group.key, group]));
  detections.forEach(({ id, score, box, mask, prompt, defect }, index) => {
    byKey
      .get(key(prompt, defect))
      .candidates.push({ id, score, box, outlines: mask?.polygons ?? [], number: index + 1 });
  });
  return groups;
}

function key(prompt, defect) {
  return JSON.stringify([prompt, defect]);
}

/**
 * What was found and which of it counts, by the thresholds in force: the service's own, one for all, or a prompt's.
 * Events: `groups` after another answer, `threshold` after a change of one.
 */
export class Findings extends EventTarget {
  /** @type {Group[]} */
  groups = [];
  /** @type {number|null} */
  common = null;
  #single = new Map();

  /** @param {Group[]} groups of another answer, or the same under other names */
  show(groups) {
    this.groups = groups;
    this.dispatchEvent(new Event("groups"));
  }

  /** @param {Group} group */
  threshold(group) {
    return this.#single.get(group.key) ?? this.common ?? group.own;
  }

  /** Whether the service's own thresholds are in force. */
  get areOwn() {
    return this.common === null && this.#single.size === 0;
  }

  /** @param {number|null} value one for all, or null: the service's own */
  setCommon(value) {
    this.common = value;
    this.#single.clear();
    this.dispatchEvent(new Event("threshold"));
  }

  /**
   * @param {string} key of a group
   * @param {number|null} value null: as the others
   */
  setSingle(key, value) {
    if (value === null) this.#single.delete(key);
    else this.#single.set(key, value);
    this.dispatchEvent(new Event("threshold"));
  }

  /**
   * @param {Group} group
   * @returns {Candidate[]} those that count, best first
   */
  passing(group) {
    const least = this.threshold(group);
    return group.candidates.filter(({ score, box }) => score >= least && shorterSide(box) >= group.minimumSize);
  }
}

function shorterSide({ x1, y1, x2, y2 }) {
  return Math.min(x2 - x1, y2 - y1);
}

function code(index) {
  const letter = String.fromCharCode(65 + (index % 26));
  return index < 26 ? letter : letter + Math.floor(index / 26);
}
