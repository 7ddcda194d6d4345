/**
 * The gateway's HTTP, and nothing of the page: one function per question, one error type, retries where they are safe,
 * the API key where the gateway requires one.
 */

const RETRYABLE = [0, 429, 503];
const LONGEST_WAIT_S = 15;
const PATIENCE_S = 120; // of all waits together, then the last problem is told
const READY_MS = 5_000; // whoever takes longer to say that it is ready is away
const KEY = "pcbd.key"; // in the tab's own storage: gone when it is closed

/** @type {(problem: Problem|null) => Promise<string|null>} */
let askForKey = async () => null;
/** The question for a key that is open: several requests wait for one answer. @type {Promise<string|null>|null} */
let asking = null;

/** What the service answered instead, or that it could not be reached (status 0). */
export class Problem extends Error {
  /**
   * @param {{status: number, title?: string, detail?: string, request_id?: string}} details RFC 9457
   * @param {number} retryAfterS seconds
   */
  constructor(details, retryAfterS = 1) {
    super(details.detail ?? details.title ?? "");
    this.status = details.status;
    this.title = details.title ?? "";
    this.detail = details.detail ?? "";
    this.requestId = details.request_id ?? null;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * One request.
 * @param {string} path relative to the page, so that a prefix before it may be anything
 * @param {RequestInit} [options]
 * @returns {Promise<{content: any, etag: string|null}>}
 * @throws {Problem} any other answer than a success, or none
 */
export async function ask(path, options = {}) {
  const answer = await send(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  const text = await bodyOf(answer, "text");
  try {
    return { content: text ? JSON.parse(text) : null, etag: answer.headers.get("ETag") };
  } catch {
    throw new Problem({ status: 0, ...read(text) }, 2); // a proxy's page: what answers is not the service
  }
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>} what lies there, as it is
 * @throws {Problem}
 */
export async function askForFile(path, signal) {
  const file = await bodyOf(await send(path, { signal }), "blob");
  if (file.type.startsWith("text/html")) throw new Problem({ status: 0 }, 2); // a proxy's page
  return file;
}

async function send(path, options) {
  const key = sessionStorage.getItem(KEY);
  let answer;
  try {
    answer = await fetch(path, {
      cache: "no-store",
      ...options,
      headers: { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...options.headers },
    });
  } catch (error) {
    throw unreachable(error);
  }
  if (answer.ok) return answer;
  const retryAfterS = Number(answer.headers.get("Retry-After")) || 1;
  const problem = new Problem({ title: answer.statusText, ...read(await bodyOf(answer, "text")), status: answer.status }, retryAfterS);
  if (problem.status !== 401) throw problem;
  const isAnother = sessionStorage.getItem(KEY) !== key; // it was given while this request was under way
  if (!isAnother && !(await changeKey(problem))) throw problem;
  return send(path, options);
}

/** The body of an answer; a connection that breaks off within it has not answered. */
async function bodyOf(answer, kind) {
  try {
    return await answer[kind]();
  } catch (error) {
    throw unreachable(error);
  }
}

function unreachable(error) {
  return error.name === "AbortError" ? error : new Problem({ status: 0 }, 2);
}

/**
 * Says who asks the person at the page for an API key.
 * @param {(problem: Problem|null) => Promise<string|null>} question of the refusal; null: the person has none to give
 */
export function onKeyNeeded(question) {
  askForKey = question;
}

/**
 * Has the person asked for another key, to be sent from now on.
 * @param {Problem|null} [problem] why
 * @returns {Promise<boolean>} whether they gave one
 */
export async function changeKey(problem = null) {
  asking ??= askForKey(problem).finally(() => {
    asking = null;
  });
  const given = await asking;
  if (given !== null) sessionStorage.setItem(KEY, given);
  return given !== null;
}

function read(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return { detail: text.slice(0, 400) }; // a proxy's page, say
  }
}

/**
 * Asks until there is room: waits as long as the service says, longer each time.
 * @param {() => Promise<T>} question
 * @param {AbortSignal} signal
 * @param {(problem: Problem, seconds: number) => void} onWait
 * @returns {Promise<T>}
 * @template T
 */
export async function askPatiently(question, signal, onWait) {
  let waited = 0;
  for (let wait = 0.5; ; wait *= 2) {
    try {
      return await question();
    } catch (error) {
      if (!(error instanceof Problem) || !RETRYABLE.includes(error.status) || waited > PATIENCE_S) throw error;
      const seconds = Math.min(LONGEST_WAIT_S, Math.max(error.retryAfterS, wait));
      waited += seconds;
      onWait(error, seconds);
      await pause(seconds, signal);
    }
  }
}

/**
 * @param {Blob} picture
 * @param {string[]} prompts none: every class of the catalog
 * @param {string} magnification a number, or a JSON list of looks
 * @param {number} scoreThreshold
 * @param {AbortSignal} signal
 */
export async function detect(picture, prompts, magnification, scoreThreshold, signal) {
  const form = new FormData();
  form.append("image", picture, "picture");
  for (const prompt of prompts) form.append("prompt", prompt);
  form.append("magnification", magnification);
  form.append("score_threshold", String(scoreThreshold));
  form.append("max_detections", "1000");
  return (await ask("detect", { method: "POST", body: form, signal })).content;
}

/** Whether the service is ready, with its checkpoint and the checkpoint's thresholds. */
export async function ready() {
  return (await ask("readyz", { signal: AbortSignal.timeout(READY_MS) })).content;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
