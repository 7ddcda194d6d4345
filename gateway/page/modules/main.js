/**
 * Puts the page together: who hears of what.
 */

import { annotate, save } from "./annotated.js";
import { startCamera } from "./camera.js";
import { Catalog } from "./catalog.js";
import { startDefects } from "./defects.js";
import { byId } from "./dom.js";
import { Findings, groupsOf } from "./findings.js";
import { Inspection } from "./inspection.js";
import { startKey } from "./key.js";
import { chooseLanguage, language, languages, startLanguage, t } from "./language.js";
import { startLooks } from "./looks.js";
import { clearNotice, showNote, showProblem } from "./notice.js";
import { fileIn, openPicture } from "./picture.js";
import { startRaw } from "./raw.js";
import { Readiness } from "./readiness.js";
import { Results } from "./results.js";
import { startReviewing } from "./reviewing.js";
import { Problem } from "./service.js";
import { Stage } from "./stage.js";
import { goTo, startTabs } from "./tabs.js";
import { writeVerdict } from "./verdict.js";
import { startWords } from "./words.js";

const CATALOG_AGAIN_MS = 10_000;

await startLanguage();

const readiness = new Readiness();
const catalog = new Catalog();
const inspection = new Inspection(() => [
  ...Object.values(readiness.served?.score_thresholds ?? {}),
  ...catalog.defects.map(({ score_threshold: set }) => set).filter((set) => set !== null),
]);
const findings = new Findings();
const stage = new Stage(byId("stage"));
const results = new Results(findings);
let picturesAsked = 0;
let catalogAgain = 0; // the timer of the next try
let isPictureNoted = false; // whether the notice tells of how a picture was given

// ---- what was found ----

function showGroups() {
  const { answer, asked } = inspection;
  const own = (index) => answer.understood[index].usual_threshold; // of the version that looked, which may be a canary
  findings.show(answer ? groupsOf(answer, asked, catalog, own) : []);
}

function marks() {
  return findings.groups
    .flatMap((group) =>
      findings.passing(group).map(({ id, score, box, outlines, number }) => ({
        id,
        box,
        outlines,
        number,
        tag: `${group.code}${number}`,
        label: `${group.code}${number} ${group.name} ${score.toFixed(2)}`,
        colour: group.colour,
        fill: group.fill,
        dash: group.dash,
      })),
    )
    .sort((one, other) => one.number - other.number);
}

function showPassing() {
  const passing = marks();
  stage.setMarks(passing);
  const { answer, busy, problem, roundTripMs } = inspection;
  const judged = passing.length ? "ng" : "ok";
  const state = answer ? judged : busy ? "busy" : problem ? "failed" : "none";
  const spent = answer ? { timings: answer.timings_ms, roundTripMs } : null;
  writeVerdict(state, passing.length, !findings.areOwn, spent);
  byId("download").disabled = !answer || !inspection.picture.bitmap;
  byId("judge").hidden = !answer;
  if (answer) byId("judge").firstElementChild.href = `#review/${encodeURIComponent(answer.request_id)}`;
}

inspection.addEventListener("answer", () => {
  if (!inspection.picture.bitmap) stage.show(inspection.picture); // its size is known only now
  showGroups();
  loadCatalog();
  const found = marks().length;
  byId("spoken").textContent =
    `${t(found ? "verdict.ng" : "verdict.ok")}. ${t(found ? "verdict.ng.meaning" : "verdict.ok.meaning", { found })}`;
});
inspection.addEventListener("picture", () => {
  stage.show(inspection.picture);
  byId("filename").textContent = inspection.picture.name;
  showGroups();
});
let troubled = false; // whether the notice tells of the inspection, not of the catalog
inspection.addEventListener("progress", () => {
  const { busy, problem, waiting } = inspection;
  document.body.toggleAttribute("data-busy", busy);
  if (!inspection.answer) showGroups();
  if (problem) {
    const choice = busy
      ? { label: t("problem.stop"), run: () => inspection.stop() }
      : { label: t("problem.again"), run: () => inspection.run() };
    showProblem(problem, { waiting, choices: [choice] });
  } else if (troubled) clearNotice();
  troubled = problem !== null;
});
for (const name of ["groups", "threshold"]) findings.addEventListener(name, showPassing);
catalog.addEventListener("change", showGroups);
readiness.addEventListener("change", () => {
  if (readiness.state !== "ready") return;
  showGroups(); // a trial counts by the checkpoint's thresholds
  loadCatalog();
});
languages.addEventListener("change", showGroups);

for (const one of [stage, results]) {
  one.addEventListener("highlight", ({ detail }) => {
    stage.highlight(detail);
    results.highlight(detail);
  });
}
results.addEventListener("select", ({ detail }) => stage.reveal(detail));
stage.addEventListener("select", ({ detail }) => detail && results.focus(detail));

/** With each answer, for colleagues change it too; detection goes on with the names that the answer gives. */
async function loadCatalog() {
  clearTimeout(catalogAgain);
  try {
    await catalog.load();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if ([401, 403].includes(error.status)) return; // the person was asked for a key, once is enough
    catalogAgain = setTimeout(loadCatalog, CATALOG_AGAIN_MS);
  }
}

// ---- pictures ----

async function take(blob, name, count = 1) {
  if (byId("stage").hidden) goTo("inspect"); // a picture that came while another side had its own
  const asked = ++picturesAsked;
  if (isPictureNoted) clearNotice();
  const picture = await openPicture(blob, name).catch(() => null);
  if (asked !== picturesAsked) return; // it was overtaken while it was decoded
  isPictureNoted = !picture || count > 1;
  if (picture) inspection.setPicture(picture);
  if (!picture) showNote(t("picture.unreadable", { name })); // a folder, or a file that is gone
  else if (count > 1) showNote(t("picture.one_of", { count }));
}

const file = /** @type {HTMLInputElement} */ (byId("file"));
for (const id of ["choose", "empty-choose"]) byId(id).addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files[0]) take(file.files[0], file.files[0].name);
  file.value = ""; // the same file may be chosen again
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.toggleAttribute("data-dragging", true);
});
for (const name of ["dragleave", "drop"])
  addEventListener(name, () => document.body.toggleAttribute("data-dragging", false));
addEventListener("drop", (event) => {
  event.preventDefault();
  const dropped = fileIn(event.dataTransfer);
  if (dropped) take(dropped, dropped.name, event.dataTransfer.files.length);
});
addEventListener("paste", (event) => {
  const pasted = fileIn(event.clipboardData);
  const isText = event.clipboardData.types.includes("text/plain"); // a spreadsheet gives its cells as a picture too
  if (!pasted || (isText && event.target.matches?.("input, textarea"))) return;
  event.preventDefault();
  take(pasted, pasted.name, event.clipboardData.files.length);
});
byId("sample").addEventListener("click", async () => take(await (await fetch("page/sample.png")).blob(), "sample.png"));
startCamera(take);
byId("download").addEventListener("click", async () => {
  const name = inspection.picture.name.replace(/\.[^.]*$/, "");
  save(await annotate(inspection.picture, marks()), `${name}.annotated.png`);
});

// ---- the rest ----

for (const button of byId("languages").querySelectorAll("button")) {
  button.addEventListener("click", () => chooseLanguage(button.value));
}
function showLanguage() {
  for (const button of byId("languages").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === language()));
  }
}
languages.addEventListener("change", showLanguage);
showLanguage();
startKey();
startTabs();
startRaw(inspection);
startLooks(inspection);
startWords(inspection, catalog);
startDefects({ catalog, inspection, findings, readiness });
startReviewing({ catalog });
showGroups();
readiness.look();
