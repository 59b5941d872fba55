// The controller's API, as this page asks it. Every question has an end, and all of them make way for what
// stops the desk: a browser gives a host six connections, and the kill switch must never wait for one.

const PREFIX = "/api/v1/";
const SESSION = "openbell-session";

/** What the API refused: `code` and `facts` as docs/reference/api.md has them. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.message || `answer ${status}`);
    this.status = status;
    this.code = body.error ?? "";
    this.hint = body.hint ?? "";
    this.facts = body;
  }
}

/** No answer, or none that can be read: what was asked for may or may not have happened. */
export class NoAnswer extends Error {}

/** Other requests made way for something urgent. */
export class StoodAside extends Error {}

export function session() {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION));
  } catch {
    return null;
  }
}

export function signIn(token, who) {
  sessionStorage.setItem(SESSION, JSON.stringify({ token, who }));
}

export function signOut() {
  sessionStorage.removeItem(SESSION);
}

const looking = new Set();
const others = new BroadcastChannel("openbell-console");
others.onmessage = standAside;

function standAside() {
  for (const each of looking) each.abort(new StoodAside());
}

/** The decoded answer of `GET PATH`. */
export function look(path, timeoutS = 5) {
  return request("GET", path, undefined, timeoutS, looking);
}

/** The decoded answer of a question that takes a body and changes nothing, such as a plan. */
export function askPlan(path, body, timeoutS = 60) {
  return request("POST", path, body, timeoutS, looking);
}

/** Something that changes the desk. */
export function act(path, body, timeoutS = 60) {
  return request("POST", path, body, timeoutS, null);
}

/** What stops the desk: every question under way makes way for it, in other tabs too. */
export function actNow(path, body, timeoutS = 60) {
  makeWay();
  return request("POST", path, body, timeoutS, null);
}

function makeWay() {
  standAside();
  others.postMessage("make way");
}

async function request(method, path, body, timeoutS, among) {
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(new NoAnswer(`none within ${timeoutS} s`)), timeoutS * 1000);
  among?.add(ending);
  try {
    const answer = await reached(send(method, path, body, ending.signal), ending.signal);
    const text = await reached(answer.text(), ending.signal);
    const kind = answer.headers.get("content-type") ?? "";
    if (!answer.ok) throw new Refused(answer.status, decoded(text, kind) ?? {});
    if (kind.includes("ndjson")) return text.split("\n").filter(Boolean).map(parsed);
    return kind.includes("json") ? parsed(text) : text;
  } finally {
    clearTimeout(timer);
    among?.delete(ending);
  }
}

function decoded(text, kind) {
  try {
    return kind.includes("json") ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new NoAnswer("what the controller answered cannot be read");
  }
}

/** Of asking and reading alone: an error of anything else is a defect of this page, and is told as one. */
async function reached(asked, signal) {
  try {
    return await asked;
  } catch {
    throw signal?.aborted ? signal.reason : new NoAnswer("the controller cannot be reached");
  }
}

function send(method, path, body, signal, more = {}) {
  const { token, who } = session() ?? { token: "", who: "" };
  const headers = { Authorization: `Bearer ${token}`, "X-Openbell-Actor": who, ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  // What cannot be asked at all is refused here, before anything is sent.
  const asked = new Request(PREFIX + path, {
    method, headers, signal,
    body: body === undefined ? undefined : JSON.stringify(body),
    mode: "same-origin", credentials: "omit", cache: "no-store", redirect: "error",
    referrerPolicy: "no-referrer",
  });
  return fetch(asked);
}

/** The emergency stop's events as they come, `heard(event)` each; resolves to its statement, or null
 * where the last word did not come. It has no time-out: it takes what the venues take. */
export async function emergencyStop(body, heard) {
  makeWay();
  let stated = null;
  try {
    const answer = await reached(
      send("POST", "emergency-stop", body, undefined, { Accept: "application/x-ndjson" }),
    );
    if (!answer.ok) throw new Refused(answer.status, decoded(await reached(answer.text()), "json") ?? {});
    let rest = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reached(reader.read());
      if (done) return stated;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const event of lines.filter(Boolean).map(parsed)) {
        if (event.event === "done") stated = event.statement;
        heard(event);
      }
    }
  } catch (error) {
    if (stated) return stated;
    throw error;
  }
}
