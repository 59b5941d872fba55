// Procedures by name, what one would do now, and beginning one. Nothing is begun whose plan was not shown.

import { act, askPlan } from "./api.js";
import { h } from "./dom.js";
import { field, valuesOf } from "./dialog.js";
import { asking, button, pill, planList, section, table, trouble } from "./parts.js";
import { duration, moment } from "./words.js";

export function proceduresView({ procedures, runs }, problem) {
  return [
    h("h1", {}, "Procedures"),
    procedures
      ? h("div", { class: "cards", "data-key": "cards" }, procedures.map((each) =>
          h("article", { class: "card", "data-key": each.name },
            h("h2", {}, each.title), h("p", {}, each.purpose),
            h("div", { class: "buttons left" },
              h("a", { class: "button", href: `#/begin/${each.name}` }, "Plan…"),
              h("code", { class: "note" }, each.command)))))
      : asking(problem, "wait"),
    section("history", "Runs, newest first", runs
      ? runs.length ? history(runs) : h("p", { class: "note" }, "No procedure was run yet.")
      : asking(problem)),
  ];
}

function history(runs) {
  return table("Runs, newest first", [
    ["run", (each) => h("a", { href: `#/runs/${each.run}` }, each.run)],
    ["state", (each) => pill(each.state)],
    ["outcome", (each) => each.outcome],
    ["by", (each) => each.who],
    ["why", (each) => each.why, "words"],
    ["begun", (each) => moment(each.begun)],
    ["took", (each) => (each.seconds === null ? "" : duration(each.seconds)), "number"],
  ], runs, (each) => each.run);
}

// --- beginning one --------------------------------------------------------------------------------

/** What a person is preparing; forgotten when they go elsewhere. */
const prepared = { name: null, plan: null, planOf: null, planAt: null, busy: "", error: null };

export function forget(name) {
  Object.assign(prepared, { name, plan: null, planOf: null, planAt: null, busy: "", error: null });
}

const LATER = {
  name: "at", label: "When",
  help: "Now where it is left empty. A time on the desk's clock (15:45) announces the closing and locks the desk until "
    + "then.",
};

export function beginView(procedure, problem) {
  if (!procedure) return [h("h1", {}, "Procedure"), asking(problem)];
  const closing = procedure.name === "close";
  const { plan, busy, error } = prepared;
  const shown = plan ? "Show the plan again" : "Show the plan";
  return [
    h("h1", {}, procedure.title),
    h("p", { class: "lead", "data-key": "purpose" }, procedure.purpose),
    h("form", { id: "prepare", "data-key": `form-${procedure.name}`, "data-do": "plan" },
      h("div", { class: "fields" },
        procedure.parameters.map((each) => field(fieldOf(each))),
        closing ? field(LATER) : null,
        field({ name: "reason", label: "Reason", help: "Kept in the run's record and the audit log." })),
      h("div", { class: "buttons left" },
        h("button", { type: "submit", class: plan ? "" : "primary", disabled: Boolean(busy) }, shown),
        plan
          ? button(closing && prepared.planOf?.at ? "Announce it" : "Begin", "begin",
              { kind: closing ? "danger" : "primary", disabled: Boolean(busy) })
          : null)),
    busy ? h("p", { class: "note", "data-key": "busy" }, busy) : null,
    error ? h("div", { class: "said bad", role: "alert", "data-key": "error" }, trouble(error)) : null,
    plan ? planned() : null,
    steps(procedure),
  ];
}

function planned() {
  return section("plan", "What will be done",
    h("p", { class: "note" }, `As it was at ${moment(prepared.planAt)}. It is looked at again before each step.`),
    planList(prepared.plan));
}

function fieldOf({ name, kind, help }) {
  const label = name.replaceAll("_", " ");
  if (kind === "yes or no") return { name, label, kind: "check", help };
  if (kind.includes("|")) {
    const options = [["", "as desk.toml says"], ...kind.split("|").map((each) => [each, each])];
    return { name, label, kind: "choice", help, options };
  }
  return { name, label, help: `${help} (${kind === "names" ? "names, with commas between" : kind})` };
}

function steps(procedure) {
  return section("steps", "Its steps", table("Steps", [
    ["step", (each) => each.title],
    ["time-out", (each) => each.timeout],
    ["on failure", (each) => each.on_failure],
    ["approvals", (each) => (each.approvals ?? []).join(", ")],
    ["verified by", (each) => each.verified_by, "words"],
  ], procedure.steps.filter((each) => each.enabled), (each) => each.name));
}

function read(procedure) {
  const form = document.getElementById("prepare");
  const fields = [...procedure.parameters.map(fieldOf), LATER, { name: "reason" }]
    .filter((each) => form.elements.namedItem(each.name));
  const { reason, at = "", ...given } = valuesOf(form, fields);
  const parameters = {};
  for (const { name, kind } of procedure.parameters) {
    const value = given[name];
    if (value === "" || value === false) continue;
    if (kind === "names") parameters[name] = value.split(",").map((each) => each.trim()).filter(Boolean);
    else if (kind === "seconds") parameters[name] = Number(value);
    else parameters[name] = value;
  }
  return { parameters, at, reason };
}

export async function showPlan(procedure, draw) {
  const wanted = read(procedure);
  Object.assign(prepared, { plan: null, error: null, busy: "Asking what would be done…" });
  draw();
  try {
    const plan = await askPlan(`procedures/${procedure.name}/plan`, { parameters: wanted.parameters });
    Object.assign(prepared, { plan, planOf: wanted, planAt: new Date().toISOString() });
  } catch (error) {
    prepared.error = error;
  }
  prepared.busy = "";
  draw();
}

/** What is in the form is not what the plan was made of any more. The reason is no part of it. */
export function planIsOld(procedure, draw) {
  if (!prepared.plan) return;
  const now = read(procedure);
  const { parameters, at } = prepared.planOf;
  if (JSON.stringify(now.parameters) === JSON.stringify(parameters) && now.at === at) return;
  prepared.plan = null;
  draw();
}

/** Begins exactly what the plan was made of. Where it leads: the address of its run. */
export async function begin(procedure, draw) {
  const { parameters, at } = prepared.planOf;
  const { reason } = read(procedure);
  Object.assign(prepared, { error: null, busy: "Asking…" });
  draw();
  try {
    const answer = at
      ? await act("close/later", { ...parameters, at, reason })
      : await act(`procedures/${procedure.name}/run`, { parameters, reason });
    forget(procedure.name);
    location.hash = answer.run ? `#/runs/${answer.run}` : "#/";
  } catch (error) {
    Object.assign(prepared, { busy: "", error });
    draw();
  }
}
