/**
 * The sides of the panel, by the address's fragment, so that the browser's back button works.
 */

import { byId } from "./dom.js";

const TABS = ["inspect", "review", "defects"];
const places = new Map(TABS.map((name) => [name, name])); // where each side was left

/** Shows the side that the address names, now and whenever it changes. */
export function startTabs() {
  for (const [index, name] of TABS.entries()) {
    const tab = byId(`tab-${name}`);
    // From the other side back to where this one was left; from this side to its beginning.
    tab.addEventListener("click", () => goTo(byId(name).hidden ? places.get(name) : name));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1 }[event.key];
      if (to === undefined || !TABS[to]) return;
      goTo(places.get(TABS[to]));
      byId(`tab-${TABS[to]}`).focus();
    });
  }
  addEventListener("hashchange", show);
  show();
}

/** @param {string} place one of TABS, and perhaps more behind a slash */
export function goTo(place) {
  location.hash = place;
}

function show() {
  const [place] = location.hash.slice(1).split("/"); // what follows the name is the tab's own matter
  const wanted = TABS.includes(place) ? place : TABS[0];
  if (wanted === place) places.set(wanted, location.hash.slice(1));
  for (const name of TABS) {
    byId(name).hidden = name !== wanted;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === wanted));
    byId(`tab-${name}`).tabIndex = name === wanted ? 0 : -1;
  }
  byId("stage").hidden = wanted === "review"; // which has a picture of its own
  byId("review-stage").hidden = wanted !== "review";
}
