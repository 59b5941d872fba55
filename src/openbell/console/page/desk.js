// The desk at a glance: what `openbell status` shows, from the same answer.

import { h } from "./dom.js";
import { button, fact, pill, section, table } from "./parts.js";
import { UNKNOWN, duration, moment, orUnknown, size, total, yesNo } from "./words.js";

export function deskView({ status, killSwitch }) {
  return [
    h("h1", { class: "hidden-visually" }, `Desk ${status.desk}`),
    h("div", { class: "notices", "data-key": "notices" }, notices(status)),
    h("div", { class: "facts", "data-key": "facts" }, facts(status)),
    section("acts", "Act", h("div", { class: "buttons left" }, acts(status))),
    recommendations(status),
    section("services", "Services", services(status)),
    status.venues.length ? section("venues", "Venues", venues(status)) : null,
    rules(killSwitch),
  ];
}

function notice(key, of, title, text, ...more) {
  return h("div", { class: `notice ${of}`, "data-key": key },
    h("div", {}, h("strong", {}, title), text ? ` ${text}` : ""), ...more);
}

const said = (by, since, reason) => `by ${orUnknown(by)}, since ${moment(since)}${reason ? `: ${reason}` : ""}`;

function notices(status) {
  const found = [];
  if (status.live.length) found.push(notice("live", "bad", "Real money", `is traded at ${status.live.join(", ")}.`));
  const { emergency } = status;
  if (emergency) {
    found.push(notice("emergency", "bad", "Emergency stop",
      `${said(emergency.actor, emergency.at, emergency.reason)}. ${cameOf(emergency)}`));
  }
  const latches = status.latch.latches ?? [];
  if (latches.length || status.latch.active) {
    const how = status.latch.active ? "Kill switch: the whole desk is latched." : "Kill switch: a part is latched.";
    found.push(notice("latch", "bad", how, "",
      h("ul", {}, latches.map((each) =>
        h("li", {}, h("code", {}, each.scope), " ", said(each.by, each.since, each.reason)))),
      button("Release…", "release")));
  }
  if (status.halt.active) {
    found.push(notice("halt", "bad", "Halted",
      `${said(status.halt.by, status.halt.since, status.halt.reason)}.`, button("Resume…", "resume")));
  }
  const soon = status.shutting_down_soon;
  if (soon) {
    const why = soon.reason ? `: ${soon.reason}` : "";
    found.push(notice("soon", "busy", "Shutting down soon:",
      `at ${moment(soon.at)}, in ${duration(soon.in_s)}, by ${soon.by}${why}.`, button("Call off…", "call-off")));
  }
  if (status.run) {
    found.push(notice("run", "busy", `${status.run.id} is under way`, ...whichRun(status.run, "Follow it")));
  }
  if (status.interrupted_run) {
    const run = status.interrupted_run;
    found.push(notice("interrupted", "busy", `${run.id} was cut off`, ...whichRun(run, "Look at it")));
  }
  if (status.restart) {
    const { quick, by, reason, stopped } = status.restart;
    const ended = stopped ? `; not opened again: ${stopped}` : "";
    found.push(notice("restart", "busy", quick ? "Quick restart" : "Restart",
      `by ${orUnknown(by)}${reason ? `: ${reason}` : ""}${ended}.`));
  }
  if (status.not_proven) {
    const { why, run, by } = status.not_proven;
    found.push(notice("not-proven", "bad", "Closed, not proven:", `${why} (${run}, by ${by}).`));
  }
  if (status.not_opened) {
    const { why, run, by } = status.not_opened;
    found.push(notice("not-opened", "bad", "Not opened:", `${why} (${run}, by ${by}).`));
  }
  if (status.lock.active) {
    const by = status.lock.run ? `${status.lock.run} of ${status.lock.by}` : status.lock.by;
    found.push(notice("lock", "busy", "Locked", `${said(by, status.lock.since, status.lock.reason)}.`));
  }
  for (const each of status.disabled_strategies) {
    found.push(notice(`disabled-${each.strategy}`, "busy", `Strategy ${each.strategy} is disabled`,
      `${said(each.by, each.since, each.reason)}.`));
  }
  if (status.limits.problem) {
    found.push(notice("limits", "bad", "Limits not known", `so no position grows: ${status.limits.problem}`));
  } else {
    for (const [place, each] of status.limits.changes.entries()) {
      found.push(notice(`limits-${place}`, "busy", `${Object.keys(each.limits).length} limits made tighter`,
        `${said(each.run || each.by, each.since, each.reason)}.`));
    }
  }
  if (status.desk_file?.changed) {
    found.push(notice("desk-file", "busy", "desk.toml has changed",
      "since this desk was opened; this controller goes by the older one."));
  }
  return found;
}

function cameOf({ under_way: underWay, statement: stated }) {
  if (underWay) return "It is under way.";
  if (!stated) return "It has no end: press again, it goes on from what it finds.";
  const venues = stated.venues.map((each) => `${each.venue} ${each.result}`).join(", ") || "no venues";
  const notAll = stated.result === "verified" && stated.exit_status !== 0 ? ", BUT NOT ALL OF IT IS DONE" : "";
  return `${stated.result.toUpperCase()}: ${venues}${notAll}.`;
}

const whichRun = ({ id, procedure, actor, step }, label) => [
  `(${procedure} by ${actor}${step ? `, at ${step}` : ""}).`,
  h("a", { class: "button", href: `#/runs/${id}` }, label),
];

function facts(status) {
  const { permit, guard, order_outcomes: outcomes, services: rows, controller } = status;
  const ready = rows.filter((each) => each.state === "ready").length;
  const cold = (guard?.venues ?? []).filter((each) => !each.warm).map((each) => each.name);
  const venueless = !status.venues.length;
  const orders = total(status.venues.map((each) => each.open_orders));
  const positions = total(status.venues.map((each) => each.positions));
  const silent = status.venues
    .filter((each) => each.open_orders === null || each.positions === null)
    .map((each) => each.name);
  return [
    fact("Permit to trade", permit === null ? "no engine" : permit.granted ? permit.scope : "none",
      permit?.why_not ?? "", permit?.granted ? "good" : ""),
    fact("Guard", guard === null ? "not needed" : guard.state,
      [
        cold.length ? `not connected to ${cold.join(", ")}` : "",
        guard?.why ?? "",
        guard?.restarts ? `restarted ${guard.restarts} times` : "",
      ].filter(Boolean).join("; "),
      guard?.state === "running" ? "good" : guard && guard.state !== "off" ? "bad" : ""),
    fact("Services ready", `${ready} of ${rows.length}`, "", rows.length && ready === rows.length ? "good" : ""),
    fact("Open orders", venueless ? "no venue" : orUnknown(orders),
      silent.length ? `${silent.join(", ")} did not say` : "", orders === null && !venueless ? "unknown" : ""),
    fact("Positions", venueless ? "no venue" : orUnknown(positions), "",
      positions === null && !venueless ? "unknown" : ""),
    outcomes === null
      ? fact("Orders, last minute", UNKNOWN, "the engine does not say", "unknown")
      : fact("Orders, last minute", `${outcomes.accepted} taken`, `${outcomes.rejected} rejected`),
    fact("Controller", `up ${duration(controller.uptime_s)}`,
      `pid ${orUnknown(controller.pid)}, version ${controller.version}`),
  ];
}

function acts(status) {
  return [
    h("a", { class: "button", href: "#/begin/open" }, "Open…"),
    h("a", { class: "button", href: "#/begin/close" }, "Close…"),
    status.halt.active ? button("Resume…", "resume") : button("Halt…", "halt"),
  ];
}

function recommendations(status) {
  if (!status.recommendations.length) return null;
  return section("advice", "What to look at", h("ul", { class: "advice" }, status.recommendations.map((each) =>
    h("li", {}, pill(each.severity, { critical: "bad", warning: "busy" }[each.severity] ?? "plain"), " ",
      h("strong", {}, each.subject), ` ${each.text}`, each.action ? [" ", h("code", {}, each.action)] : null))));
}

function services(status) {
  return table("Services, their state and health", [
    ["service", (each) => [each.name, each.critical ? h("span", { class: "note" }, " critical") : null]],
    ["state", (each) => pill(each.state)],
    ["healthy", (each) => yesNo(each.healthy)],
    ["role", (each) => each.role],
    ["response", (each) => (each.response_ms === null ? "" : `${each.response_ms.toFixed(1)} ms`), "number"],
    ["up", (each) => (each.uptime_s === null ? "" : duration(each.uptime_s)), "number"],
    ["restarts", (each) => each.restarts, "number"],
    ["cpu", (each) => (each.cpu_percent === null ? "" : `${each.cpu_percent.toFixed(1)} %`), "number"],
    ["memory", (each) => (each.memory_bytes === null ? "" : size(each.memory_bytes)), "number"],
    ["note", serviceNote, "words"],
  ], status.services, (each) => each.name);
}

function serviceNote(each) {
  const code = each.drift?.length ? "runs older code" : "";
  const drift = each.drift?.includes("table") ? "runs under an older desk.toml" : code;
  return [each.phase ? ofThePair(each) : "", each.reason || drift].filter(Boolean).join("; ");
}

function ofThePair(each) {
  if (each.role === "engine") return "primary";
  if (each.promotable) return "standby, promotable";
  return `standby, not promotable: ${(each.why_not_promotable ?? []).join("; ")}`;
}

function venues(status) {
  return table("Venues and what they hold", [
    ["venue", (each) => each.name],
    ["environment", (each) => (each.environment === "live" ? pill("LIVE", "bad") : each.environment)],
    ["connected", (each) => yesNo(each.connected)],
    ["open orders", (each) => orUnknown(each.open_orders), "number"],
    ["positions", (each) => orUnknown(each.positions), "number"],
    ["dead man's switch", (each) => deadMan(each.dead_man)],
    ["note", venueNote, "words"],
  ], status.venues, (each) => each.name);
}

function venueNote(each) {
  return [
    each.why,
    each.held_back && `holds the desk back: ${each.held_back}`,
    each.cash?.result === "differs" && `CASH DIFFERS: ${each.cash.why}`,
  ].filter(Boolean).join("; ");
}

function deadMan(row) {
  if (!row) return UNKNOWN;
  return ["none", "unknown"].includes(row.applies) ? row.state : `${row.state} (${row.applies})`;
}

function rules(killSwitch) {
  if (!killSwitch?.rules?.length) return null;
  return section("rules", "What sets the kill switch by itself", table("Rules of the kill switch", [
    ["rule", (each) => each.rule],
    ["state", (each) => pill(each.state)],
    ["value", (each) => orUnknown(each.value), "number"],
    ["limit", (each) => each.limit, "number"],
    ["note", (each) => each.text, "words"],
  ], killSwitch.rules, (each) => `${each.rule} ${each.scope}`));
}
