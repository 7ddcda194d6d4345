/**
 * The defects that the service knows, as it holds them. No element of the page is touched here.
 *
 * @typedef {Object} Defect as GET /defects gives it
 * @property {string} id
 * @property {number} version
 * @property {{en: string[], zh: string[]}} names the first of each is the usual one
 * @property {{en: string[], zh: string[]}} descriptions
 * @property {number|null} score_threshold null: what the checkpoint sets
 * @property {number} minimum_size_px shorter side of a box
 * @property {"info"|"minor"|"major"|"critical"} severity
 * @property {string} colour #rrggbb
 * @property {boolean} enabled whether a request without words asks for it
 *
 * @typedef {{version: number, at: string, actor: string, before: Defect|null, after: Defect|null}} Change
 */

import { signature } from "./actor.js";
import { language } from "./language.js";
import { ask, Problem } from "./service.js";

/** `defects` in the catalog's order; an event `change` tells of others. */
export class Catalog extends EventTarget {
  constructor() {
    super();
    /** @type {Defect[]} */
    this.defects = [];
    this.loaded = false; // ever
  }

  #asked = 0;
  #taken = 0; // the question whose answer is held

  /** Reads the whole catalog; it tells of a change only where there is one. */
  async load() {
    const asked = ++this.#asked;
    const { defects } = (await ask("defects")).content;
    if (asked < this.#taken) return; // a later question was answered before
    this.#taken = asked;
    if (this.loaded && JSON.stringify(defects) === JSON.stringify(this.defects)) return;
    this.loaded = true;
    this.defects = defects;
    this.dispatchEvent(new Event("change"));
  }

  /** Reads it behind a change, which was made even where this does not succeed: then the change's answer has to do. */
  async #reload(id, stored) {
    try {
      await this.load();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const now = stored ? [stored] : [];
      if (this.find(id)) this.defects = this.defects.flatMap((defect) => (defect.id === id ? now : [defect]));
      else this.defects = [...this.defects, ...now];
      this.dispatchEvent(new Event("change"));
    }
  }

  /** @returns {Defect|undefined} */
  find(id) {
    return this.defects.find((defect) => defect.id === id);
  }

  /** @returns {Promise<Defect>} as it is now */
  async read(id) {
    return (await ask(path(id))).content;
  }

  /**
   * Writes a defect, a new one or another version, and reads the catalog again.
   * @param {Defect} defect
   * @param {number|null} version the one it was made from, refused with 412 if it is not the newest; null: a new defect
   * @returns {Promise<Defect>} as it is held now
   */
  async write(defect, version) {
    const { id, version: _, ...fields } = defect;
    const condition = version === null ? { "If-None-Match": "*" } : { "If-Match": `"${version}"` };
    const { content } = await ask(path(id), {
      method: "PUT",
      headers: writing(condition),
      body: JSON.stringify(fields),
    });
    await this.#reload(id, content);
    return content;
  }

  /**
   * Changes some fields only.
   * @param {Defect} defect as it was read
   * @param {Object} fields
   */
  async change(defect, fields) {
    const headers = writing({ "If-Match": `"${defect.version}"` });
    const { content } = await ask(path(defect.id), { method: "PATCH", headers, body: JSON.stringify(fields) });
    await this.#reload(defect.id, content);
  }

  /** @param {Defect} defect which must still be as it was read */
  async remove(defect) {
    await ask(path(defect.id), { method: "DELETE", headers: writing({ "If-Match": `"${defect.version}"` }) });
    await this.#reload(defect.id, null);
  }

  /** @returns {Promise<Change[]>} newest first */
  async history(id) {
    return (await ask(`${path(id)}/history`)).content.reverse();
  }

  /** @returns {Promise<boolean>} whether a defect has that id, or had it: reviews of that one refer to it still */
  async isUsed(id) {
    try {
      await this.history(id);
      return true;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      return false;
    }
  }
}

/** @param {Defect} defect its usual name in the reader's language, or in the other */
export function nameOf(defect) {
  const { en, zh } = defect.names;
  return (language() === "zh" ? [...zh, ...en] : [...en, ...zh])[0] ?? defect.id;
}

function path(id) {
  return `defects/${encodeURIComponent(id)}`;
}

function writing(condition) {
  return { "Content-Type": "application/json", ...signature(), ...condition };
}
