/**
 * The list of inspections with its filters.
 */

import { nameOf } from "./catalog.js";
import { element, refill } from "./dom.js";
import { language, languages, t, translate } from "./language.js";

const MOST = 4; // classes named in a row
const CHOICES = { state: ["open", "reviewed", ""], reason: ["near_threshold", "random", ""] };

/**
 * @param {import("./review.js").Review} review
 * @param {import("./catalog.js").Catalog} catalog
 * @param {(question: () => Promise<void>) => void} listed asks, and tells what cannot be read
 * @returns {HTMLElement}
 */
export function makeReviewList(review, catalog, listed) {
  const rows = element("ul", { class: "inspections" });
  const nothing = element("p", { class: "hint", "data-t": "review.nothing" });
  const more = element("button", { type: "button", "data-t": "review.more", onclick: () => listed(() => review.more()) });
  const defect = element("select", { id: "review-defect" });
  const recipe = element("input", { id: "review-recipe", type: "search", autocomplete: "off", maxlength: 128 });
  const selects = Object.entries(CHOICES).map(([name, values]) => {
    const options = values.map((value) => element("option", { value, "data-t": `review.${name}.${value || "any"}` }));
    return element("select", { id: `review-${name}` }, ...options);
  });
  const [state, reason] = selects;

  function write() {
    const { filter } = review;
    const names = catalog.defects.map((each) => element("option", { value: each.id }, nameOf(each)));
    defect.replaceChildren(element("option", { value: "" }, t("review.defect.any")), ...names);
    for (const [name, field] of Object.entries({ state, reason, defect })) field.value = filter[name] ?? "";
    if (recipe !== document.activeElement) recipe.value = filter.recipe ?? ""; // else it is being typed
    rows.replaceChildren(...review.inspections.map((inspection) => row(inspection, catalog)));
    nothing.hidden = review.inspections.length > 0;
    more.hidden = review.next === null;
  }

  const filters = element(
    "form",
    {
      class: "filters",
      onsubmit: (event) => event.preventDefault(),
      onchange: () => {
        const chosen = { state: state.value, reason: reason.value, recipe: recipe.value.trim(), defect: defect.value };
        listed(() => review.setFilter(chosen));
      },
    },
    ...[state, reason, defect, recipe].map((field) =>
      element("label", {}, element("span", { "data-t": `${field.id.replace("-", ".")}.label` }), field),
    ),
  );
  const list = element(
    "div",
    { class: "review-list" },
    element("p", { class: "hint", "data-t": "review.hint" }),
    filters,
    rows,
    nothing,
    more,
  );
  nothing.hidden = more.hidden = true; // until the list was read
  translate(list);
  review.addEventListener("list", write);
  catalog.addEventListener("change", write);
  languages.addEventListener("change", write);
  return list;
}

function row(inspection, catalog) {
  const { request_id: id, verdict, reviewed, has_image: kept } = inspection;
  const counts = Object.entries(inspection.counts).sort(([, one], [, other]) => other - one);
  const found = counts.slice(0, MOST).map(([defect, count]) => `${named(defect, catalog)} × ${count}`);
  if (counts.length > MOST) found.push(t("results.more", { rest: counts.length - MOST }));
  const item = element("li", { "data-verdict": verdict, "data-reviewed": reviewed, "data-inspection": id });
  const link = element("a", { href: `#review/${encodeURIComponent(id)}` });
  refill(
    link,
    element("strong", { class: "letters-of" }, t(`verdict.${verdict}`)),
    element("span", { class: "what" }, found.join(t("results.comma")) || t("verdict.ok.meaning")),
    element("span", { class: "facts" }, facts(inspection).join(" · ")),
    reviewed ? element("span", { class: "done" }, `✓ ${t("review.done")}`) : null,
    kept ? null : element("span", { class: "hint" }, t("review.no_picture.short")),
  );
  item.append(link);
  return item;
}

/**
 * @param {import("./review.js").Summary} inspection
 * @returns {string[]} when, where, and why it is worth a look
 */
export function facts({ at, board_id: board, camera_id: camera, recipe, reason }) {
  return [when(at), board, camera, recipe, reason && t(`review.reason.${reason}`)].filter(Boolean);
}

/** @param {string} at ISO 8601 @returns {string} in the reader's words */
export function when(at) {
  const words = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language() === "zh" ? "zh-CN" : "en-GB", words).format(new Date(at));
}

function named(defect, catalog) {
  const known = catalog.find(defect);
  return known ? nameOf(known) : defect;
}
