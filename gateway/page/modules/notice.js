/**
 * The place where a problem is told: the service's own words, what to do, and the next try.
 */

import { byId, element, refill } from "./dom.js";
import { hasWords, t, translate } from "./language.js";
import { changeKey } from "./service.js";

const FORBIDDEN = 403;

/**
 * @typedef {{label: string, run: () => void}} Choice
 * @param {import("./service.js").Problem} problem
 * @param {{waiting?: number|null, choices?: Choice[]}} [more] waiting: seconds until the next try
 */
export function showProblem(problem, { waiting = null, choices = [] } = {}) {
  const remedy = `problem.${problem.status}`;
  const offered = problem.status === FORBIDDEN ? [...choices, { label: t("key.other"), run: () => changeKey() }] : choices;
  const notice = byId("notice");
  notice.dataset.kind = waiting === null ? "fault" : "waiting";
  refill(
    notice,
    element("h2", {}, title(problem)),
    element("p", {}, t(hasWords(remedy) ? remedy : "problem.other")),
    problem.detail ? element("p", { class: "said", lang: "en" }, problem.detail) : null,
    waiting === null ? null : element("p", {}, t("problem.waiting", { seconds: Math.ceil(waiting) })),
    problem.requestId ? element("p", { class: "figure hint" }, t("problem.request", { id: problem.requestId })) : null,
    element("p", { class: "choices" }, ...offered.map(button)),
  );
  show(notice);
}

/**
 * Something to tell that is no problem.
 * @param {string} text
 * @param {Choice[]} [choices] what can be done about it
 * @param {Node|null} [more]
 */
export function showNote(text, choices = [], more = null) {
  const notice = byId("notice");
  notice.dataset.kind = "note";
  refill(notice, element("p", {}, text), more, element("p", { class: "choices" }, ...choices.map(button)));
  translate(notice);
  show(notice);
}

/** Takes the notice away. */
export function clearNotice() {
  byId("notice").hidden = true;
  byId("notice").replaceChildren();
}

function show(notice) {
  notice.hidden = false;
  notice.scrollIntoView({ block: "nearest" });
}

function title({ status, title: said }) {
  return status === 0 ? t("problem.away") : `${status} · ${said}`;
}

function button({ label, run }) {
  return element("button", { type: "button", onclick: run }, label);
}
