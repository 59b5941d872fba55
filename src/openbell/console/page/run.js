// One run: live from its events, and afterwards from its record.

import { look, NoAnswer, Refused } from "./api.js";
import { h } from "./dom.js";
import { requestCard } from "./approvals.js";
import { asking, button, fact, noLonger, pill, section, table } from "./parts.js";
import { duration, moment, orUnknown, size, tone } from "./words.js";

const LAST = ["done", "failed"];
const NOTES = ["resumed", "abandoned", "waiting", "approved", "cancelling"];

/** What is known of a run: its document, events, record, and the declaration with its time-outs. */
export function emptyRun(id) {
  return { id, document: null, events: [], record: null, declared: null, error: null, gone: false, at: null,
    recordAt: -Infinity };
}

const isOver = (run) =>
  LAST.includes(run.events.at(-1)?.event) || ["done", "failed", "cancelled"].includes(run.document?.state);

/** Asks for what is new. An older controller's run has no events here: its record tells. */
export async function refreshRun(run) {
  const id = encodeURIComponent(run.id);
  const asked = performance.now();
  try {
    if (!run.document) run.document = await look(`runs/${id}`);
    // Which steps it has, of this desk and of what was asked for: written down when it began.
    run.record ??= await look(`runs/${id}/report`, 15);
    run.declared ??= await look(`procedures/${encodeURIComponent(run.document.procedure)}`);
    if (!run.gone && !LAST.includes(run.events.at(-1)?.event)) {
      try {
        run.events.push(...(await look(`runs/${id}/events?follow=false&after=${run.events.length}`)));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        run.gone = true;
      }
    }
    // A record is checked as a whole each time: of a run that was cut off not every second.
    const rested = performance.now() - run.recordAt > 5_000;
    if (!run.record.finished && (isOver(run) || (run.gone && rested))) {
      run.recordAt = performance.now();
      run.document = await look(`runs/${id}`);
      run.record = await look(`runs/${id}/report`, 15);
    }
    Object.assign(run, { error: null, at: asked });
  } catch (error) {
    if (!(error instanceof Refused || error instanceof NoAnswer)) throw error;
    run.error = error;
  }
}

/** Steps as they went: declared ones that have not begun are still to come. */
function stepsOf(run) {
  const steps = new Map();
  for (const event of run.events) {
    const step = steps.get(event.step);
    if (event.event === "step_started") {
      steps.set(event.step, { ...stepOf(run, event.step), title: event.title, state: "running" });
    } else if (step && event.event === "step_planned") {
      step.plan = event.plan ?? [];
      step.message = event.message ?? "";
    } else if (step && event.event === "progress") {
      if (step.from === null) step.from = event.count;
      Object.assign(step, { message: event.message ?? "", count: event.count ?? null, target: event.target ?? null });
    } else if (step && event.event === "step_done") {
      Object.assign(step, { state: event.outcome, seconds: event.seconds, message: event.message ?? "" });
    } else if (event.event === "waiting") {
      // Of a step that waits to begin nothing else was told yet; one that asks whether to go on has ended.
      const before = step?.state ?? "waiting";
      steps.set(event.step, { ...(step ?? stepOf(run, event.step)), state: "waiting", before });
    } else if (step && event.event === "approved") step.state = step.before ?? step.state;
  }
  if (!steps.size) {
    for (const each of run.record?.steps ?? []) {
      steps.set(`${each.name}#${each.attempt}`, {
        ...stepOf(run, each.name), state: each.outcome ?? "unknown", plan: each.plan ?? [], seconds: each.seconds,
        message: each.detail ?? "",
      });
    }
  }
  const known = new Set([...steps.values()].map((each) => each.name));
  const declared = run.declared?.steps.filter((each) => each.enabled).map((each) => each.name);
  const planned = run.record?.planned_steps ?? declared ?? [];
  const coming = isOver(run) ? [] : planned.filter((each) => !known.has(each));
  return [...steps.values(), ...coming.map((name) => stepOf(run, name))];
}

function stepOf(run, name) {
  return {
    name, title: titleOf(run, name), state: "to come", plan: [], seconds: null, message: "", count: null, target: null,
    from: null,
  };
}

const stepNow = (run) => run.events.findLast((each) => each.event === "step_started")?.title ?? "";
const declaredStep = (run, name) => run.declared?.steps.find((each) => each.name === name);
const titleOf = (run, name) => declaredStep(run, name)?.title ?? name;

export function runView({ run, status, approvals }) {
  const { document: told, record } = run;
  if (!told) return [h("h1", {}, run.id), noLonger("error", { error: run.error, ageS: null }) ?? asking(run.error)];
  const last = run.events.at(-1) ?? {};
  const over = isOver(run);
  const cutOff = status?.interrupted_run?.id === run.id;
  const state = over ? (LAST.includes(last.event) ? last.event : told.state) : cutOff ? "interrupted" : told.state;
  const waiting = (approvals?.requests ?? []).filter((each) => each.run === run.id);
  const came = over ? (last.outcome ?? told.outcome ?? "") : stepNow(run);
  const tookS = over
    ? last.seconds ?? record?.seconds
    : Math.max(0, (Date.now() - Date.parse(told.started)) / 1000);
  return [
    h("h1", {}, `${record?.title ?? run.declared?.title ?? told.procedure} `, h("span", { class: "note" }, run.id)),
    h("div", { class: "facts", "data-key": "facts" },
      fact("State", waiting.length ? "waiting" : state, came, state === "running" ? "busy" : tone(state)),
      fact("By", orUnknown(told.actor), record?.why ?? ""),
      fact("Begun", moment(told.started)),
      fact(over ? "Took" : "For", duration(tookS))),
    last.message && over
      ? h("p", { class: `said ${last.event === "done" ? "good" : "bad"}`, "data-key": "message" }, last.message)
      : null,
    noLonger("error", { error: run.error, ageS: run.at === null ? null : (performance.now() - run.at) / 1000 }),
    waiting.length ? section("waiting", "It waits for people", waiting.map((each) => requestCard(each))) : null,
    h("div", { class: "buttons left", "data-key": "acts" },
      !over && !cutOff ? button("Cancel the run…", "cancel-run", { run: run.id }) : null,
      cutOff ? button("Go on with it…", "resume-run", { run: run.id }) : null,
      cutOff ? button("Cancel the run…", "cancel-run", { run: run.id }) : null,
      ["html", "md", "json"].map((form) => button(`Record (${form})`, "download", { run: run.id, form }))),
    section("steps", "Steps", h("ol", { class: "steps" }, stepsOf(run).map((step) => stepItem(run, step)))),
    notes(run),
    over ? result(last.result) : null,
    over && record ? recordParts(record) : null,
  ];
}

function stepItem(run, step) {
  const declared = declaredStep(run, step.name);
  const late = step.state === "running" || step.state === "waiting";
  const limit = late && declared?.timeout ? `time-out ${declared.timeout}` : "";
  const far = step.count !== null && step.target !== null;
  return h("li", { class: "step", "data-key": step.name },
    h("div", { class: "head" },
      pill(step.state, step.state === "running" ? "busy" : tone(step.state)),
      h("span", { class: "title" }, step.title),
      h("span", { class: "note" }, step.seconds !== null ? duration(step.seconds) : limit)),
    step.message ? h("p", { class: "message" }, step.message) : null,
    late && step.count !== null ? h("div", { class: "progress" },
      far && step.from !== null && step.from !== step.target
        ? h("progress", {
            max: Math.abs(step.from - step.target), value: Math.abs(step.from - step.count),
            "aria-label": `${step.title}: ${step.count} towards ${step.target}`,
          })
        : null,
      h("span", {}, `${step.count}${far ? ` towards ${step.target}` : ""}`)) : null,
    step.plan.length
      ? h("details", {},
          h("summary", {}, `what it ${step.state === "done" ? "did" : "does"}: ${step.plan.length}`),
          h("ul", {}, step.plan.map((each) => h("li", {}, each))))
      : null);
}

function notes(run) {
  const found = run.events.filter((each) => NOTES.includes(each.event) || each.event === "alert");
  if (!found.length) return null;
  return section("notes", "What happened besides", h("ul", { class: "log" }, found.map((each) =>
    h("li", { class: each.event === "alert" ? "bad" : "" },
      h("span", { class: "note" }, moment(new Date(each.at_ns / 1e6).toISOString())),
      ` ${each.event === "alert" ? "ALERT " : ""}${each.message ?? ""}`))));
}

function result(found) {
  if (!found || found.verified === undefined) return null;
  const listed = (title, rows, text) => {
    const known = rows !== null && rows !== undefined;
    const all = known && rows.length ? rows.map(text).join(", ") : "none";
    return h("li", {}, `${title}: `, known ? all : h("span", { class: "unknown" }, "not known"));
  };
  return section("result", "Closing statement", h("div", { class: `said ${found.verified ? "good" : "bad"}` },
    h("p", {}, h("strong", {}, found.verified ? "Verified. " : "NOT VERIFIED. "), found.summary ?? ""),
    h("ul", {},
      listed("orders that remain", found.remaining_orders, (each) => `${each.venue} ${each.symbol} ${each.cl_ord_id}`),
      listed("positions that remain", found.remaining_positions,
        (each) => `${each.venue} ${each.symbol} ${each.quantity ?? each.venue_quantity ?? ""}`),
      listed("not known", found.unknown, String),
      listed("processes left", found.processes_left, (each) => each.service ?? JSON.stringify(each)))));
}

function recordParts(record) {
  const { chain } = record;
  // Three answers each: null is not known, and no word is not "no".
  const whole = { true: ["whole", "good"], false: ["broken", "bad"] }[chain.whole] ?? ["unknown", "unknown"];
  const kept = { true: " is in the audit log", false: " IS NOT in the audit log" }[chain.head_is_in_audit_log] ?? "";
  return [
    section("record", "Record", h("p", {}, pill(...whole),
      ` chain of ${chain.records ?? 0} records${chain.problem ? `: ${chain.problem}` : ""}; head `,
      h("code", {}, (chain.head ?? "").slice(0, 16)), kept),
      record.evidence_files.length ? table("Evidence", [
        ["file", (each) => h("code", {}, each.path), "words"],
        ["size", (each) => size(each.bytes), "number"],
        ["now", (each) => pill(each.now, each.now === "unchanged" ? "good" : "bad")],
        ["SHA-256", (each) => h("code", {}, (each.sha256 ?? "").slice(0, 16))],
      ], record.evidence_files, (each) => each.path) : h("p", { class: "note" }, "No evidence files.")),
    record.startup_log?.components.length ? section("startup", "Start-up", table("Components", [
      ["component", (each) => each.component],
      ["phase", (each) => each.phase],
      ["outcome", (each) => pill(each.outcome)],
      ["time", (each) => duration(each.seconds), "number"],
      ["memory", (each) => size(each.memory_bytes), "number"],
      ["reason", (each) => each.reason, "words"],
    ], record.startup_log.components, (each) => each.component)) : null,
  ];
}
