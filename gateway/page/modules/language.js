/**
 * The page's words in the reader's language: the browser's at first, then what was chosen.
 *
 * Words lie in words/en.json and words/zh.json under the same keys. index.html names them in data-t (text),
 * data-t-label (aria-label and tooltip) and data-t-placeholder.
 */

const LANGUAGES = ["en", "zh"];
const CHOSEN = "pcbd.language";

let current = "en";
let words = {};

/** Tells every listener that all words must be written again. */
export const languages = new EventTarget();

/** Loads the words of the browser's language, or of the one chosen on an earlier visit. */
export async function startLanguage() {
  const wanted = [localStorage.getItem(CHOSEN), ...navigator.languages];
  const codes = wanted.map((code) => code?.slice(0, 2).toLowerCase());
  await use(codes.find((code) => LANGUAGES.includes(code)) ?? "en");
}

/** @param {string} code one of LANGUAGES, kept for the next visit */
export async function chooseLanguage(code) {
  await use(code);
  localStorage.setItem(CHOSEN, code);
}

/** @returns {"en"|"zh"} */
export function language() {
  return current;
}

/**
 * @param {string} key
 * @param {Object<string, string|number>} [values] for the {names} within the words
 * @returns {string}
 */
export function t(key, values = {}) {
  if (!(key in words)) throw new Error(`words/${current}.json has no ${key}`);
  return words[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** @param {string} key whether there are words for it */
export function hasWords(key) {
  return key in words;
}

async function use(code) {
  const answer = await fetch(`page/words/${code}.json`);
  if (!answer.ok) throw new Error(`page/words/${code}.json: ${answer.status}`);
  words = await answer.json();
  current = code;
  document.documentElement.lang = code === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  translate(document.body);
  languages.dispatchEvent(new Event("change"));
}

/** Writes the words that the nodes below one name; for nodes made later than the page. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    const label = t(node.dataset.tLabel);
    node.setAttribute("aria-label", label);
    if (node.matches("button")) node.title = label;
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
}
