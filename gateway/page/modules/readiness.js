/**
 * Whether the service is there, asked every few seconds; the line of words in the page's head.
 */

import { byId, element } from "./dom.js";
import { languages, t } from "./language.js";
import { Problem, ready } from "./service.js";

const CALM_MS = 10_000;
const EAGER_MS = 2_000; // while it is not ready

/**
 * @typedef {Object} Served as GET /readyz gives it
 * @property {{name: string, version: string}} model
 * @property {string} checkpoint_sha256
 * @property {string[]} defects ids of the classes that the checkpoint has learned
 * @property {Object<string, number>} score_thresholds by class id, and "default"
 */

/**
 * `state` is "starting" (as the service says), "away" (nobody answers) or "ready"; an event `change` tells of another.
 */
export class Readiness extends EventTarget {
  constructor() {
    super();
    this.state = "unknown";
    /** The last that was there. @type {Served|null} */
    this.served = null;
    this.reason = "";
    languages.addEventListener("change", () => this.#write());
    addEventListener("online", () => this.look());
    addEventListener("offline", () => this.look());
  }

  /** @param {string|null} id of a class; null for words that name none. @returns {number} the checkpoint's threshold */
  threshold(id) {
    const { score_thresholds: thresholds } = this.served;
    return thresholds[id] ?? thresholds.default;
  }

  /** @param {string} id whether the checkpoint has learned the class by name */
  knows(id) {
    return this.served?.defects.includes(id) ?? false;
  }

  /** Asks once, and goes on asking. */
  async look() {
    clearTimeout(this.timer);
    const before = `${this.state} ${this.served?.checkpoint_sha256}`;
    try {
      this.served = await ready();
      this.state = "ready";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.state = error.status === 0 ? "away" : "starting";
      this.reason = error.detail;
    } finally {
      this.timer = setTimeout(() => this.look(), this.state === "ready" ? CALM_MS : EAGER_MS);
    }
    this.#write();
    if (before !== `${this.state} ${this.served?.checkpoint_sha256}`) this.dispatchEvent(new Event("change"));
  }

  #write() {
    const line = byId("readiness");
    line.dataset.state = this.state;
    const model = this.served ? `${this.served.model.name} · v${this.served.model.version}` : "";
    const text = this.state === "unknown" ? "" : t(`ready.${this.state}`);
    line.title = this.state === "starting" ? this.reason : "";
    line.replaceChildren(
      element("span", { class: "lamp", "aria-hidden": "true" }),
      element("span", {}, text),
      ...(this.state === "ready" ? [element("span", { class: "figure model" }, model)] : []),
    );
  }
}
