// The page: signs a person in, asks the controller again and again, and draws what it says.

import * as acts from "./acts.js";
import { look, NoAnswer, Refused, session, signIn, signOut, StoodAside } from "./api.js";
import { approvalsView } from "./approvals.js";
import { deskView } from "./desk.js";
import { isWorking, leaveDialog } from "./dialog.js";
import { fill, h } from "./dom.js";
import { atATerminal, button, noLonger, pill } from "./parts.js";
import * as procedures from "./procedures.js";
import { emptyRun, refreshRun, runView } from "./run.js";
import { duration, tone } from "./words.js";

const LOOK_EVERY_MS = 1_000;
const LOOK_EVERY_HIDDEN_MS = 10_000;
// An answer that takes longer leaves what is shown in doubt.
const SLOW_MS = 3_000;
const RULES_EVERY_MS = 5_000;
// What fits into a header.
const NAME = /^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa0-\xff]{0,62}[\x21-\x7e\xa1-\xff])?$/;

const state = {
  status: null,
  statusAt: 0, // When the newest answer was asked for: what it says is no younger.
  askedAt: null, // Of the question that has no answer yet.
  failure: "", // Why the newest question of the status came to nothing.
  defect: "", // The same, where this page is at fault.
  undrawn: "", // Why the newest answers could not be drawn.
  approvals: null,
  killSwitch: null,
  killSwitchAt: -Infinity,
  procedures: null,
  runs: null,
  declared: null,
  run: null,
  // What is asked besides: when it was last answered, and why it is not any more.
  approvalsLook: { at: null, error: null },
  viewLook: { at: null, error: null },
  signInProblem: "",
  signingIn: false,
};

const byId = (id) => document.getElementById(id);
const now = () => performance.now();

// --- where we are -----------------------------------------------------------------------------------

function route() {
  const [, view = "", name = ""] = location.hash.split("/");
  return { view, name: decoded(name) };
}

/** An address that somebody typed may be none: the API then says what it makes of it. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  const { view, name } = route();
  state.run = view === "runs" && name ? emptyRun(name) : null;
  // What the view before it asked for is not shown as this one's, nor with its age.
  Object.assign(state, {
    declared: null, runs: null, killSwitch: null, killSwitchAt: -Infinity, viewLook: { at: null, error: null },
  });
  procedures.forget(view === "begin" ? name : null);
  byId("main").replaceChildren();
  drawSurely();
  byId("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  wakeView();
});

// --- asking -----------------------------------------------------------------------------------------

const pause = (milliseconds, wake) => new Promise((resolve) => {
  wake.now = resolve;
  setTimeout(resolve, milliseconds);
});
const ofStatus = {};
const ofView = {};
const wakeView = () => ofView.now?.();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const each of [ofStatus, ofView]) each.now?.();
});

const rest = () => (document.hidden ? LOOK_EVERY_HIDDEN_MS : LOOK_EVERY_MS);

async function followStatus() {
  for (;;) {
    if (session() && !state.signingIn) {
      const asked = now();
      const { token } = session();
      state.askedAt = asked;
      try {
        const status = await look("status");
        if (session()?.token === token) {
          announce(state.status, status);
          Object.assign(state, { status, statusAt: asked, failure: "", defect: "" });
        }
      } catch (error) {
        if (session()?.token === token) failed(error);
      }
      state.askedAt = null;
      drawSurely();
    }
    await pause(rest(), ofStatus);
  }
}

async function followView() {
  for (;;) {
    if (session() && !state.signingIn && state.status) {
      // Each by itself: that of one nothing is known is no reason to know nothing of the other.
      await noting("approvalsLook", lookAtApprovals);
      drawSurely();
      await noting("viewLook", lookAtView);
      drawSurely();
    }
    await pause(rest(), ofView);
  }
}

/** Keeps what came of a look, for the view that shows it; of one that is not shown any more, nothing. */
async function noting(which, looking) {
  const asked = now();
  const into = state[which];
  try {
    if ((await looking()) === false) return;
    Object.assign(into, { at: asked, error: null });
  } catch (error) {
    // What made way is asked again; a token that is not taken any more is seen by who asks for the status.
    if (!(error instanceof StoodAside)) into.error = error;
  }
}

async function lookAtApprovals() {
  const before = state.approvals?.requests.length ?? 0;
  const { token } = session();
  const approvals = await look("approvals");
  if (session()?.token !== token) return;
  state.approvals = approvals;
  if (approvals.requests.length > before) say("Something waits for an approval.");
}

/** False: there was nothing to ask. */
async function lookAtView() {
  const { view, name } = route();
  if (!session() || (view === "" && now() - state.killSwitchAt <= RULES_EVERY_MS)) return false;
  if (view === "") {
    state.killSwitch = await look("kill-switch", 15);
    state.killSwitchAt = now();
  } else if (view === "procedures") {
    state.procedures ??= (await look("procedures")).procedures;
    state.runs = (await look("runs?limit=50")).runs;
  } else if (view === "begin" && !state.declared) {
    const declared = await look(`procedures/${encodeURIComponent(name)}`);
    if (route().name === name) state.declared = declared;
  } else if (state.run && !state.run.record?.finished) {
    await refreshRun(state.run);
  }
  return true;
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    signOut();
    forgetDesk("The controller does not take this token any more. Sign in again.");
  } else if (error instanceof NoAnswer || error instanceof Refused) {
    state.failure = error.message;
  } else if (!(error instanceof StoodAside)) {
    // What is shown may be wrong: that is told, and the next answer is tried all the same.
    state.defect = error.message;
    console.error(error);
  }
}

/** What cannot be drawn leaves what was drawn before it: never without the banner. */
function drawSurely() {
  try {
    draw();
    if (state.undrawn) {
      state.undrawn = "";
      drawBanner();
    }
  } catch (error) {
    state.undrawn = error.message;
    console.error(error);
    drawBanner();
  }
}

function forgetDesk(problem) {
  Object.assign(state, {
    status: null, approvals: null, killSwitch: null, killSwitchAt: -Infinity, procedures: null, runs: null,
    declared: null, failure: "", defect: "", undrawn: "", signInProblem: problem,
    approvalsLook: { at: null, error: null }, viewLook: { at: null, error: null },
  });
  state.run &&= emptyRun(state.run.id);
  // What was confirmed goes on; what comes of it is told there and nowhere else.
  if (byId("dialog").open && !isWorking()) leaveDialog();
  byId("main").replaceChildren();
}

// --- drawing ----------------------------------------------------------------------------------------

const fault = () => state.undrawn || state.defect;

/** Why what is shown may not be so any more; empty where it is fresh. */
function doubt() {
  if (fault()) return `a defect of it: ${fault()}`;
  if (state.failure) return state.failure;
  if (state.askedAt !== null && now() - state.askedAt > SLOW_MS) return "it has not answered yet";
  // Whatever it is that keeps this page from asking.
  return state.status && now() - state.statusAt > SLOW_MS + rest() ? "it was not asked again" : "";
}

// The record of a run that has ended stays true.
const isOld = () => Boolean(state.status) && Boolean(doubt()) && !state.run?.record?.finished;

const ageS = (at = state.statusAt) => (now() - at) / 1000;

const isSignedIn = () => Boolean(session()) && !state.signingIn;

function draw() {
  drawBanner();
  drawTop();
  if (!isSignedIn()) fill(byId("main"), signInView());
  else if (!state.status) fill(byId("main"), h("p", { class: "note", "data-key": "wait" }, "Asking the controller…"));
  else fill(byId("main"), viewOf(route().view));
}

function viewOf(view) {
  const { approvalsLook, viewLook } = state;
  const problem = (key, { at, error }) => noLonger(key, { error, ageS: at === null ? null : ageS(at) });
  const ofView = problem("view-look", viewLook);
  const ofApprovals = problem("approvals-look", approvalsLook);
  if (view === "procedures") return [ofView, procedures.proceduresView(state, viewLook.error)];
  if (view === "begin") return [ofView, procedures.beginView(state.declared, viewLook.error)];
  if (view === "approvals") return [ofApprovals, approvalsView(state, approvalsLook.error)];
  if (state.run) return [ofView, ofApprovals, runView(state)];
  return [ofView, deskView(state)];
}

function drawTop() {
  const { status } = state;
  const brand = h("div", { class: "brand", "data-key": "brand" }, h("span", { class: "name" }, "Openbell"));
  if (!isSignedIn()) {
    document.title = "Openbell";
    fill(byId("top"), brand);
    return;
  }
  const inDoubt = doubt();
  if (status) {
    brand.append(h("span", { class: "desk" }, status.desk),
      inDoubt ? pill("UNKNOWN", "unknown") : pill(status.state.toUpperCase(), tone(status.state)));
    if (status.live.length) brand.append(pill("LIVE", "bad"));
    document.title = `${status.desk}: ${inDoubt ? "UNKNOWN" : status.state.toUpperCase()} · Openbell`;
  }
  const { view } = route();
  const waiting = state.approvalsLook.error ? "?" : state.approvals?.requests.length ?? 0;
  const tab = (to, text, count = 0) =>
    h("a", { href: `#/${to}`, "aria-current": (view || "") === to ? "page" : null, "data-key": `tab-${to}` },
      text, count ? h("span", { class: "count" }, count) : null);
  fill(byId("top"),
    brand,
    h("nav", { "aria-label": "Views", "data-key": "nav" },
      tab("", "Desk"), tab("procedures", "Procedures"), tab("approvals", "Approvals", waiting)),
    h("div", { class: "stops", "data-key": "stops" },
      button("Kill switch…", "kill-switch", { kind: "danger" }),
      button("Emergency stop…", "emergency", { kind: "danger" })),
    h("div", { class: "who", "data-key": "who" },
      h("span", { class: "age" }, status ? `as of ${duration(ageS())} ago` : ""),
      h("span", {}, session().who), button("Sign out", "sign-out", { kind: "quiet" })));
}

/** What is shown is no longer so, or may not be: said once to those who listen, with an age that only those who look
 * see go on. */
function drawBanner() {
  const signedIn = isSignedIn();
  const why = signedIn ? doubt() : "";
  const { status } = state;
  byId("main").classList.toggle("old", signedIn && isOld());
  if (!why) {
    fill(byId("banner"), signedIn && status?.why ? h("p", { class: "why", "data-key": "why" }, status.why) : null);
    return;
  }
  const closed = status?.state === "offline" && !fault();
  const told = fault()
    ? "This page does not show what it should. "
    : closed
      ? "The desk was closed when its controller last answered, and the controller is gone. "
      : "The controller does not answer. ";
  fill(byId("banner"), h("div", { class: closed ? "lost closed" : "lost", "data-key": "lost" },
    h("div", {},
      h("p", { role: "alert" }, h("strong", {}, told), `(${why})`),
      h("p", {}, !status
        ? "Nothing of the desk is known here."
        : ["What is shown was so ", h("span", { class: "age" }, duration(ageS())),
           " ago; what is so now is not known here."])),
    closed ? h("p", {}, h("code", {}, "openbell up"), " opens it again.") : atATerminal()));
}

function signInView() {
  return h("section", { class: "sign-in", "data-key": "sign-in" },
    h("h1", {}, "Sign in"),
    h("p", {}, "With your name, and the token in ", h("code", {}, "state/api.token"),
      " beside the desk's desk.toml. Both are kept in this tab alone, until it is closed."),
    h("form", { "data-do": "sign-in" },
      h("div", { class: "field" },
        h("label", { for: "who" }, "Your name"),
        h("input", {
          id: "who", name: "who", required: true, maxlength: 64, autocomplete: "username", autofocus: true,
        }),
        h("p", { class: "note" }, "As desk.toml names you; it goes into the audit log.")),
      h("div", { class: "field" },
        h("label", { for: "token" }, "API token"),
        h("input", {
          id: "token", name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false",
        })),
      state.signInProblem
        ? h("p", { class: "said bad", role: "alert", "data-key": "problem" }, state.signInProblem)
        : null,
      h("div", { class: "buttons left" },
        h("button", { type: "submit", class: "primary" }, state.signingIn ? "Asking…" : "Sign in"))));
}

/** For those who listen instead of looking. */
function say(text) {
  byId("said").textContent = text;
}

function announce(before, after) {
  if (before && before.state !== after.state) say(`The desk is now ${after.state}.`);
}

// --- what a person does -----------------------------------------------------------------------------

async function enter(form) {
  const who = form.elements.who.value.trim();
  const token = form.elements.token.value.trim();
  if (!NAME.test(who)) {
    state.signInProblem = "A name has at most 64 letters, of the Latin alphabet.";
    return drawSurely();
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    state.signInProblem = "That is no token: a token has no blanks and no letters beyond ASCII.";
    return drawSurely();
  }
  state.signingIn = true;
  state.signInProblem = "";
  signIn(token, who);
  drawSurely();
  try {
    await look("ping", 60);
  } catch (error) {
    signOut();
    const known = error instanceof Refused || error instanceof NoAnswer || error instanceof StoodAside;
    if (!known) console.error(error);
    if (error instanceof Refused && error.status === 401) state.signInProblem = "This desk does not take that token.";
    else if (error instanceof StoodAside) state.signInProblem = "It made way for something urgent. Sign in again.";
    else state.signInProblem = `Not signed in: ${known ? "" : "a defect of this page: "}${error.message}.`;
  } finally {
    state.signingIn = false;
  }
  if (session()) {
    form.reset();
    byId("main").replaceChildren();
    ofStatus.now?.();
  }
  drawSurely();
}

const DOING = {
  "kill-switch": acts.killSwitch, emergency: acts.emergency, release: acts.release, halt: acts.halt,
  resume: acts.resume, "call-off": acts.callOff, "cancel-run": acts.cancelRun, "resume-run": acts.resumeRun,
  approve: acts.approve, download: acts.download,
  "leave-dialog": () => leaveDialog(),
  "sign-out": () => {
    signOut();
    forgetDesk("");
    drawSurely();
  },
  begin: () => procedures.begin(state.declared, drawSurely),
};

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("button[data-do]");
  if (pressed) void DOING[pressed.dataset.do](state, pressed.dataset);
});
document.addEventListener("submit", (event) => {
  const doing = event.target.dataset.do;
  if (!doing) return;
  event.preventDefault();
  if (doing === "sign-in") void enter(event.target);
  if (doing === "plan") void procedures.showPlan(state.declared, drawSurely);
});
document.addEventListener("input", (event) => {
  if (event.target.form?.id === "prepare") procedures.planIsOld(state.declared, drawSurely);
});
byId("dialog").addEventListener("close", () => {
  byId("dialog").replaceChildren();
  ofStatus.now?.();
  wakeView();
});

// Ages go on by themselves; so does a question that has no answer yet.
setInterval(() => {
  drawBanner();
  drawTop();
}, 1_000);

const { view, name } = route();
if (view === "runs" && name) state.run = emptyRun(name);
if (view === "begin") procedures.forget(name);
drawSurely();
void followStatus();
void followView();
