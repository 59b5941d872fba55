// What a person does to the desk: each asked for, with its reason, and told as the API answers.

import { act, actNow, askPlan, emergencyStop, look, NoAnswer } from "./api.js";
import { boundTo, titleOf } from "./approvals.js";
import { ask, REASON } from "./dialog.js";
import { h, saveFile } from "./dom.js";
import { atATerminal, trouble } from "./parts.js";
import { eventLine, isWhole, statement } from "./stop.js";

const scopeField = (status) => ({
  name: "scope", label: "Of what", value: "desk", required: true,
  options: ["desk", ...(status?.venues ?? []).map((each) => `venue:${each.name}`)],
  help: "desk, venue:NAME, symbol:BASE/QUOTE or strategy:NAME.",
});

/** Nothing is asked before it: what the dialog shows is known already. */
export function killSwitch({ status }) {
  ask({
    title: "Activate the kill switch", danger: true, label: "Activate it now",
    intro: h("p", {}, "From the next order on, nothing new is sent; cancels stay open. Resting orders and positions "
      + "stay. It outlives every process until a person releases it."),
    fields: [REASON, scopeField(status)],
    confirm: async ({ reason, scope }, show) => {
      const body = { scopes: scopesOf(scope), reason };
      const done = await orAtATerminal(show, () => actNow("kill-switch/activate", body));
      if (!done) return false;
      const sure = done.engine !== "unknown" && done.durable;
      show(
        h("p", { class: sure ? "good" : "bad" }, h("strong", {}, `Latched: ${done.scopes.join(", ")}. `),
          done.durable ? "It is on the disk. " : `IT MAY NOT OUTLIVE A CRASH: ${done.problems.join("; ")}. `,
          `The engine: ${done.engine}${done.why ? ` (${done.why})` : ""}.`, done.recorded ? "" : " NOT RECORDED."));
      return true;
    },
  });
}

export function emergency({ status }) {
  ask({
    title: "Emergency stop", danger: true, label: "Stop everything now",
    intro: h("p", {}, "Latches, freezes what can send, cancels at every venue, asks each until that is proven, and "
      + "ends the processes. Positions stay unless you say so. It goes on where this page does not."),
    fields: [
      REASON, scopeField(status),
      { name: "flatten", label: "Close positions too", kind: "check", help: "By reduce-only market orders." },
      { name: "account_wide", label: "Others' orders on the same accounts too", kind: "check" },
    ],
    plan: ({ scope, flatten, account_wide }) =>
      askPlan("emergency-stop/plan", { scopes: scopesOf(scope), flatten, account_wide }),
    confirm: async ({ reason, scope, flatten, account_wide }, show) => {
      const lines = [];
      const draw = (...more) => show(h("ul", { class: "log" }, lines.map((each) => h("li", {}, each))), more);
      draw(h("p", {}, "Asked…"));
      const body = { reason, scopes: scopesOf(scope), flatten, account_wide };
      const stated = await orAtATerminal(show, (heard) => emergencyStop(body, (event) => {
        heard();
        const line = lineOf(event);
        if (line) lines.push(line);
        draw();
      }));
      if (!stated) {
        if (lines.length) {
          draw(h("p", { class: "bad" }, "Its last word did not come. It goes on all the same; press again to see it."),
            atATerminal());
        }
        return false;
      }
      draw(statement(stated), isWhole(stated) ? null : atATerminal());
      return true;
    },
  });
}

const scopesOf = (scope) => scope.split(/[\s,]+/).filter(Boolean);

const SILENT_MS = 3_000;

/** What the controller does not hear of is done at a terminal: that is said when it is slow, and the
 * answer is waited for all the same. `doing(heard)`: `heard()` once it has said anything. */
async function orAtATerminal(show, doing) {
  const slow = setTimeout(
    () => show(h("p", { class: "bad" }, "No answer yet; it is waited for."), atATerminal()), SILENT_MS);
  try {
    return await doing(() => clearTimeout(slow));
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    show(h("div", { class: "bad" }, trouble(error)), atATerminal());
    return null;
  } finally {
    clearTimeout(slow);
  }
}

/** What cannot be drawn ends no stop's report: the next line and the statement are shown all the same. */
function lineOf(event) {
  try {
    return eventLine(event);
  } catch (error) {
    console.error(error);
    return `${event.event}: not shown, by a defect of this page (${error.message})`;
  }
}

export async function release() {
  const found = await look("kill-switch", 60).catch((error) => error);
  const latches = found.latches ?? [];
  ask({
    title: "Release the kill switch", label: "Release",
    intro: [
      found instanceof Error ? h("div", { class: "said bad" }, trouble(found)) : null,
      h("p", {}, "What is released is exactly this. The desk stays halted until it is resumed."),
      h("ul", {}, latches.map((each) =>
        h("li", {}, h("code", {}, each.scope), ` by ${each.by}: ${each.reason || "no reason given"}`))),
      found.approval?.needed ? h("p", { class: "note" }, "Another person must approve it.") : null,
    ],
    fields: [REASON],
    confirm: async ({ reason }, show) => {
      if (found instanceof Error) throw found;
      const scopes = [...new Set(latches.map((each) => each.scope))];
      const done = await act("kill-switch/deactivate", { scopes, reason, latches: latches.map((each) => each.id) });
      show(h("p", {}, done.deactivated
        ? `Released: ${done.scopes.join(", ")}.${done.halted ? " The desk is halted until it is resumed." : ""}`
        : `Asked for. Another person must approve request ${done.request.id}.`));
    },
  });
}

export function halt() {
  ask({
    title: "Halt the desk", label: "Halt", fields: [REASON],
    intro: h("p", {}, "No new orders; services stay up. It outlives every process until the desk is resumed."),
    confirm: async ({ reason }, show) => {
      const done = await actNow("halt", { reason });
      show(h("p", { class: done.verified ? "good" : "bad" }, done.verified
        ? "Halted, and the engine confirmed it."
        : `Halted on the disk; the engine did not confirm it: ${done.why}`));
    },
  });
}

export function resume() {
  ask({
    title: "Resume trading", label: "Resume",
    intro: h("p", {}, "New orders go on, if nothing speaks against it. What does is told."),
    confirm: async (_values, show) => {
      const done = await act("resume", {});
      show(h("p", { class: "good" }, `Resumed; the desk is ${done.state}.`));
    },
  });
}

export function callOff() {
  ask({
    title: "Call the announced closing off", label: "Call it off",
    fields: [{ ...REASON, required: false }],
    intro: h("p", {}, "The closing does not begin, and the lock that came with it goes."),
    confirm: async ({ reason }, show) => {
      await act("close/call-off", { reason });
      show(h("p", {}, "Called off."));
    },
  });
}

export function cancelRun(_state, { run }) {
  ask({
    title: `Cancel ${run}`, danger: true, label: "Cancel the run", fields: [REASON],
    intro: h("p", {}, "It ends after the step under way; what was done stays done. In what condition the desk then "
      + "is, is told here."),
    confirm: async ({ reason }, show) => {
      const done = await act(`runs/${encodeURIComponent(run)}/cancel`, { reason });
      show(h("p", {}, done.after_step ? `It ends after ${done.after_step}. ` : "It has ended. ",
        String(done.left ?? "")));
    },
  });
}

export function resumeRun(_state, { run }) {
  const path = `runs/${encodeURIComponent(run)}/resume`;
  ask({
    title: `Go on with ${run}`, label: "Go on", planFirst: true,
    intro: h("p", {}, "It goes on from what it finds, with what it was asked for last. What has changed of its "
      + "procedure since is told."),
    plan: () => look(`${path}/plan`, 60),
    confirm: async (_values, show) => {
      const done = await act(path, {});
      show(h("p", {}, `${done.run} goes on.`, done.changed ? ` ${done.changed}` : ""));
    },
  });
}

export function approve({ approvals }, { request }) {
  const each = (approvals?.requests ?? []).find((found) => found.id === request);
  if (!each) return;
  ask({
    title: `Approve: ${titleOf(each)}`, label: "Approve", fields: [REASON],
    intro: [
      h("p", {}, `Asked for by ${each.by.join(", ")}: ${each.reason || "no reason given"}. What you approve is what `
        + "was shown; where it has changed since, it is refused."),
      h("dl", {}, boundTo(each)),
    ],
    confirm: async ({ reason }, show) => {
      const body = { digest: each.digest, reason, ...(each.step ? { step: each.step } : { request: each.id }) };
      const done = await act(each.path.replace("/api/v1/", ""), body, 120);
      show(h("p", { class: "good" },
        done.complete === false ? "Approved; another approval is still to come." : "Approved."));
    },
  });
}

export async function download(_state, { run, form }) {
  const save = async () => {
    const text = await look(`runs/${encodeURIComponent(run)}/report?format=${form}`, 30);
    const kind = { html: "text/html", md: "text/markdown", json: "application/json" }[form];
    saveFile(`${run}.${form}`, typeof text === "string" ? text : JSON.stringify(text, null, 2), kind);
  };
  try {
    await save();
  } catch (error) {
    ask({
      title: `The record of ${run}`, label: "Ask again", intro: h("div", { class: "said bad" }, trouble(error)),
      confirm: async (_values, show) => {
        await save();
        show(h("p", { class: "good" }, "Saved."));
      },
    });
  }
}
