/**
 * The list of what was found, class by class, and the scales that decide what counts.
 */

import { byId, element, graphic, paint } from "./dom.js";
import { t } from "./language.js";
import { makeScale } from "./scale.js";

const MOST_ROWS = 100; // of one class; the scale and the picture show all

/** Events: `highlight` and `select` with `detail` the id of a candidate, or null. */
export class Results extends EventTarget {
  #findings;
  #parts = new Map();
  #common = null;

  /** @param {import("./findings.js").Findings} findings */
  constructor(findings) {
    super();
    this.#findings = findings;
    findings.addEventListener("groups", () => this.#show());
    findings.addEventListener("threshold", () => this.#update());
    byId("findings").addEventListener("keydown", (event) => step(event));
  }

  /** @param {string|null} id the row that stands out */
  highlight(id) {
    for (const row of byId("findings").querySelectorAll(".row"))
      row.toggleAttribute("data-on", row.dataset.mark === id);
  }

  /** @param {string} id the row to bring into sight and under the keyboard */
  focus(id) {
    const row = [...byId("findings").querySelectorAll(".row")].find((each) => each.dataset.mark === id);
    row?.scrollIntoView({ block: "nearest" });
    row?.focus({ preventScroll: true });
  }

  #show() {
    this.#parts.clear();
    this.#common = null;
    const best = ({ candidates }) => candidates[0]?.score ?? 0;
    const full = this.#findings.groups.filter(best).sort((one, other) => best(other) - best(one));
    const empty = this.#findings.groups.filter((group) => !best(group)).map(({ name }) => name);
    byId("thresholds").replaceChildren(...(full.length ? this.#commonScale(full) : []));
    const nothing = empty.length
      ? [element("p", { class: "hint nothing" }, t("results.nothing", { names: empty.join(t("results.comma")) }))]
      : [];
    byId("findings").replaceChildren(...full.map((group) => this.#section(group)), ...nothing);
    this.#update();
  }

  /** Writes what the thresholds let pass now. */
  #update() {
    const findings = this.#findings;
    let all = 0;
    for (const group of findings.groups) {
      const passing = findings.passing(group);
      all += passing.length;
      const parts = this.#parts.get(group.key);
      if (!parts) continue;
      parts.count.textContent = String(passing.length);
      parts.section.toggleAttribute("data-none", passing.length === 0);
      parts.scale.set(findings.threshold(group), passing.length);
      parts.list.replaceChildren(...passing.slice(0, MOST_ROWS).map((candidate) => this.#row(group, candidate)));
      parts.rest.textContent =
        passing.length > MOST_ROWS ? t("results.more", { rest: passing.length - MOST_ROWS }) : "";
    }
    const first = byId("findings").querySelector(".row");
    if (first) first.tabIndex = 0;
    if (!this.#common) return;
    const values = findings.groups.map((group) => findings.threshold(group));
    this.#common.scale.set(findings.common ?? Math.min(...values), all);
    this.#common.reset.hidden = findings.areOwn;
  }

  #commonScale(groups) {
    const owns = new Set(groups.map(({ own }) => own));
    const scale = makeScale({
      label: t("thresholds.common"),
      scores: groups.flatMap(({ candidates }) => candidates.map(({ score }) => score)),
      own: owns.size === 1 ? [...owns][0] : null,
      value: 0,
      onInput: (value) => this.#findings.setCommon(value),
    });
    scale.querySelector("input").id = "threshold";
    const reset = element(
      "button",
      { type: "button", id: "threshold-reset", onclick: () => this.#findings.setCommon(null) },
      t("thresholds.reset"),
    );
    this.#common = { scale, reset };
    return [
      element("div", { class: "heading" }, element("h2", {}, t("thresholds.title")), reset),
      scale,
      element("p", { class: "hint" }, t("thresholds.hint")),
    ];
  }

  #section(group) {
    const count = element("span", { class: "count figure" });
    const list = element("ol", { class: "rows" });
    const rest = element("p", { class: "hint" });
    const scale = makeScale({
      label: t("thresholds.of", { name: group.name }),
      scores: group.candidates.map(({ score }) => score),
      own: group.own,
      value: group.own,
      onInput: (value) => this.#findings.setSingle(group.key, value),
    });
    const section = element(
      "section",
      { class: "group", "aria-label": group.name },
      element(
        "h3",
        {},
        swatch(group),
        element("span", { class: "name" }, group.name),
        group.severity &&
          element("span", { class: "severity", "data-severity": group.severity }, t(`severity.${group.severity}`)),
        count,
      ),
      group.asked && element("p", { class: "hint" }, t("results.asked", { asked: group.asked })),
      scale,
      list,
      rest,
    );
    this.#parts.set(group.key, { section, count, list, rest, scale });
    return paint(section, { colour: group.colour });
  }

  #row(group, { id, score, box, number }) {
    const size = `${Math.round(box.x2 - box.x1)} × ${Math.round(box.y2 - box.y1)}`;
    const tell = (name, detail) => this.dispatchEvent(new CustomEvent(name, { detail }));
    return element(
      "li",
      {},
      element(
        "button",
        {
          type: "button",
          class: "row figure",
          tabindex: "-1",
          "data-mark": id,
          "aria-label": t("results.row", {
            name: group.name,
            number,
            score: score.toFixed(2),
            x: Math.round(box.x1),
            y: Math.round(box.y1),
            size,
          }),
          onclick: () => tell("select", id),
          onfocus: () => tell("highlight", id),
          onblur: () => tell("highlight", null),
          onpointerenter: () => tell("highlight", id),
          onpointerleave: () => tell("highlight", null),
        },
        element("span", { class: "tag" }, `${group.code}${number}`),
        element("span", { class: "place" }, `x ${Math.round(box.x1)} y ${Math.round(box.y1)}`),
        element("span", { class: "size" }, size),
        element("span", { class: "score" }, score.toFixed(2)),
      ),
    );
  }
}

/** The sign of a class: its letter, its colour and its line. */
export function swatch({ code, colour, dash }) {
  const sign = graphic(
    "svg",
    { class: "swatch", viewBox: "0 0 22 22", "aria-hidden": "true" },
    graphic("rect", { x: 2, y: 2, width: 18, height: 18, "stroke-dasharray": dash }),
    graphic("text", { x: 11, y: 15.5, "text-anchor": "middle" }, code),
  );
  return paint(sign, { colour });
}

/** Up, down, Home and End between the rows, which are one stop of the Tab key. */
function step(event) {
  const rows = [...byId("findings").querySelectorAll(".row")];
  const at = rows.indexOf(event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (at < 0 || to === undefined || !rows[to]) return;
  event.preventDefault();
  rows[at].tabIndex = -1;
  rows[to].tabIndex = 0;
  rows[to].focus();
}
