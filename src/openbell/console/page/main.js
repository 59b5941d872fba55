// The page: signs a person in, asks the controller again and again, and draws what it says.

import * as acts from "./acts.js";
import { look, NoAnswer, Refused, session, signIn, signOut, StoodAside } from "./api.js";
import { approvalsView } from "./approvals.js";
import { deskView } from "./desk.js";
import { leaveDialog } from "./dialog.js";
import { fill, h } from "./dom.js";
import { atATerminal, button, pill } from "./parts.js";
import * as procedures from "./procedures.js";
import { emptyRun, refreshRun, runView } from "./run.js";
import { duration } from "./words.js";

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
  failure: "",
  approvals: null,
  killSwitch: null,
  killSwitchAt: -Infinity,
  procedures: null,
  runs: null,
  declared: null,
  declaredProblem: null,
  run: null,
  signInProblem: "",
  signingIn: false,
};

const byId = (id) => document.getElementById(id);
const now = () => performance.now();

// --- where we are -----------------------------------------------------------------------------------

function route() {
  const [, view = "", name = ""] = location.hash.split("/");
  return { view, name: decodeURIComponent(name) };
}

addEventListener("hashchange", () => {
  const { view, name } = route();
  state.run = view === "runs" && name ? emptyRun(name) : null;
  Object.assign(state, { declared: null, declaredProblem: null });
  procedures.forget(view === "begin" ? name : null);
  byId("main").replaceChildren();
  draw();
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
          Object.assign(state, { status, statusAt: asked, failure: "" });
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
      try {
        await lookAtView();
      } catch (error) {
        // That the controller does not answer is told by the other question, of the status.
        if (!(error instanceof NoAnswer || error instanceof StoodAside || error instanceof Refused)) failed(error);
      }
      drawSurely();
    }
    await pause(rest(), ofView);
  }
}

async function lookAtView() {
  const before = state.approvals?.requests.length ?? 0;
  state.approvals = await look("approvals");
  if (state.approvals.requests.length > before) say("Something waits for an approval.");
  const { view, name } = route();
  if (view === "" && now() - state.killSwitchAt > RULES_EVERY_MS) {
    state.killSwitch = await look("kill-switch", 15);
    state.killSwitchAt = now();
  } else if (view === "procedures") {
    state.procedures ??= (await look("procedures")).procedures;
    state.runs = (await look("runs?limit=50")).runs;
  } else if (view === "begin" && !state.declared) {
    try {
      state.declared = await look(`procedures/${encodeURIComponent(name)}`);
    } catch (error) {
      state.declaredProblem = error;
      throw error;
    }
  } else if (state.run && !state.run.record?.finished) {
    await refreshRun(state.run);
  }
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    signOut();
    forgetDesk("The controller does not take this token any more. Sign in again.");
  } else if (error instanceof NoAnswer || error instanceof Refused) {
    state.failure = error.message;
  } else if (!(error instanceof StoodAside)) {
    // What is shown may be wrong: that is told, and the next answer is tried all the same.
    state.failure = `a defect of this page: ${error.message}`;
    console.error(error);
  }
}

function drawSurely() {
  try {
    draw();
  } catch (error) {
    failed(error);
    drawTop(Boolean(session()));
    drawBanner(Boolean(session()));
  }
}

function forgetDesk(problem) {
  Object.assign(state, { status: null, approvals: null, killSwitch: null, killSwitchAt: -Infinity, procedures: null, runs: null, declared: null, failure: "", signInProblem: problem });
  state.run &&= emptyRun(state.run.id);
  if (byId("dialog").open) leaveDialog();
  byId("main").replaceChildren();
}

// --- drawing ----------------------------------------------------------------------------------------

/** Why what is shown may not be so any more; empty where it is fresh. */
function doubt() {
  if (state.failure) return state.failure;
  if (state.askedAt !== null && now() - state.askedAt > SLOW_MS) return "it has not answered yet";
  // Whatever it is that keeps this page from asking.
  return state.status && now() - state.statusAt > SLOW_MS + rest() ? "it was not asked again" : "";
}

// The record of a run that has ended stays true.
const isOld = () => Boolean(state.status) && Boolean(doubt()) && !state.run?.record?.finished;

const ageS = () => (now() - state.statusAt) / 1000;

function draw() {
  const signedIn = Boolean(session()) && !state.signingIn;
  drawTop(signedIn);
  drawBanner(signedIn);
  if (!signedIn) fill(byId("main"), signInView());
  else if (!state.status) fill(byId("main"), h("p", { class: "note", "data-key": "wait" }, "Asking the controller…"));
  else fill(byId("main"), viewOf(route().view));
  byId("main").classList.toggle("old", signedIn && isOld());
}

function viewOf(view) {
  if (view === "procedures") return procedures.proceduresView(state);
  if (view === "begin") return procedures.beginView({ procedure: state.declared, problem: state.declaredProblem });
  if (view === "approvals") return approvalsView(state);
  if (state.run) return runView(state);
  return deskView(state);
}

function drawTop(signedIn) {
  const { status } = state;
  const brand = h("div", { class: "brand", "data-key": "brand" }, h("span", { class: "name" }, "Openbell"));
  if (!signedIn) {
    document.title = "Openbell";
    fill(byId("top"), brand);
    return;
  }
  const inDoubt = doubt();
  if (status) {
    brand.append(h("span", { class: "desk" }, status.desk),
      inDoubt ? pill("UNKNOWN", "unknown") : pill(status.state.toUpperCase(), pill(status.state).classList[1]));
    if (status.live.length) brand.append(pill("LIVE", "bad"));
    document.title = `${status.desk}: ${inDoubt ? "UNKNOWN" : status.state.toUpperCase()} · Openbell`;
  }
  const { view } = route();
  const waiting = state.approvals?.requests.length ?? 0;
  const tab = (to, text, count = 0) => h("a", { href: `#/${to}`, "aria-current": (view || "") === to ? "page" : null, "data-key": `tab-${to}` }, text, count ? h("span", { class: "count" }, count) : null);
  fill(byId("top"),
    brand,
    h("nav", { "aria-label": "Views", "data-key": "nav" }, tab("", "Desk"), tab("procedures", "Procedures"), tab("approvals", "Approvals", waiting)),
    h("div", { class: "stops", "data-key": "stops" }, button("Kill switch…", "kill-switch", { kind: "danger" }), button("Emergency stop…", "emergency", { kind: "danger" })),
    h("div", { class: "who", "data-key": "who" }, h("span", { class: "age" }, status ? `as of ${duration(ageS())} ago` : ""), h("span", {}, session().who), button("Sign out", "sign-out", { kind: "quiet" })));
}

function drawBanner(signedIn) {
  const why = signedIn ? doubt() : "";
  const { status } = state;
  if (!why) {
    fill(byId("banner"), signedIn && status?.why ? h("p", { class: "why" }, status.why) : null);
    return;
  }
  const closed = status?.state === "offline";
  fill(byId("banner"), h("div", { class: closed ? "lost closed" : "lost", role: "alert" },
    h("p", {}, h("strong", {}, closed ? "The desk was closed when its controller last answered, and the controller is gone. " : "The controller does not answer. "),
      status ? ["What is shown was so ", h("span", { class: "age" }, duration(ageS())), " ago; what is so now is not known here. "] : "Nothing of the desk is known here. ",
      `(${why})`),
    closed ? h("p", {}, h("code", {}, "openbell up"), " opens it again.") : atATerminal()));
}

function signInView() {
  return h("section", { class: "sign-in", "data-key": "sign-in" },
    h("h1", {}, "Sign in"),
    h("p", {}, "With your name, and the token in ", h("code", {}, "state/api.token"), " beside the desk's desk.toml. Both are kept in this tab alone, until it is closed."),
    h("form", { "data-do": "sign-in" },
      h("div", { class: "field" }, h("label", { for: "who" }, "Your name"), h("input", { id: "who", name: "who", required: true, maxlength: 64, autocomplete: "username", autofocus: true }), h("p", { class: "note" }, "As desk.toml names you; it goes into the audit log.")),
      h("div", { class: "field" }, h("label", { for: "token" }, "API token"), h("input", { id: "token", name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false" })),
      state.signInProblem ? h("p", { class: "said bad", role: "alert", "data-key": "problem" }, state.signInProblem) : null,
      h("div", { class: "buttons left" }, h("button", { type: "submit", class: "primary" }, state.signingIn ? "Asking…" : "Sign in"))));
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
    return draw();
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    state.signInProblem = "That is no token: a token has no blanks and no letters beyond ASCII.";
    return draw();
  }
  state.signingIn = true;
  state.signInProblem = "";
  signIn(token, who);
  draw();
  try {
    await look("ping", 60);
  } catch (error) {
    signOut();
    if (error instanceof Refused && error.status === 401) state.signInProblem = "This desk does not take that token.";
    else if (error instanceof Refused || error instanceof NoAnswer) state.signInProblem = `Not signed in: ${error.message}.`;
    else throw error;
  } finally {
    state.signingIn = false;
  }
  if (session()) {
    form.reset();
    byId("main").replaceChildren();
    ofStatus.now?.();
  }
  draw();
}

const DOING = {
  "kill-switch": acts.killSwitch, emergency: acts.emergency, release: acts.release, halt: acts.halt,
  resume: acts.resume, "call-off": acts.callOff, "cancel-run": acts.cancelRun, "resume-run": acts.resumeRun,
  approve: acts.approve, download: acts.download,
  "leave-dialog": () => leaveDialog(),
  "sign-out": () => {
    signOut();
    forgetDesk("");
    draw();
  },
  begin: () => procedures.begin(state.declared, draw),
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
  if (doing === "plan") void procedures.showPlan(state.declared, draw);
});
document.addEventListener("input", (event) => {
  if (event.target.form?.dataset.changed) procedures.planIsOld(state.declared, draw);
});
byId("dialog").addEventListener("close", () => {
  byId("dialog").replaceChildren();
  ofStatus.now?.();
  wakeView();
});

// Ages go on by themselves; so does a question that has no answer yet.
setInterval(() => {
  const signedIn = Boolean(session()) && !state.signingIn;
  drawTop(signedIn);
  drawBanner(signedIn);
  byId("main").classList.toggle("old", signedIn && isOld());
}, 1_000);

const { view, name } = route();
if (view === "runs" && name) state.run = emptyRun(name);
if (view === "begin") procedures.forget(name);
draw();
void followStatus();
void followView();
