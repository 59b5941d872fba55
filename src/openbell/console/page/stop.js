// How an emergency stop reads: a line for each event, and its statement; as `openbell emergency-stop` has them.

import { h } from "./dom.js";
import { duration } from "./words.js";

const WORDS = { verified: "VERIFIED ZERO", residual: "RESIDUAL", unknown: "UNKNOWN" };
const LISTED_MAX = 20;

const word = (result) => WORDS[result] ?? String(result);
const because = (why) => (why ? `: ${why}` : "");
const those = (problems) => (problems?.length ? ` (${problems.join("; ")})` : "");
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** One line, or nothing for what a person needs not see. */
export function eventLine(event) {
  switch (event.event) {
    case "alone":
      return `${event.why}: doing it here`;
    case "stuck":
      return `process ${event.pid} carries out a stop and stands still (${event.why}): killed`;
    case "begun":
      return begun(event);
    case "latched":
      return `${event.latch.set ? "latched" : "NOT LATCHED"}${those(event.latch.problems)}`;
    case "frozen":
      return event.services.map(frozen).join("; ");
    case "no_desk":
      return `no venue can be asked: ${event.why}`;
    case "venue": {
      const told = venueLine(event);
      return told ? `${event.venue}: ${told}` : "";
    }
    case "strategy":
      return event.what === "asked"
        ? `strategy ${event.strategy}: its engine is asked`
        : `strategy ${event.strategy}: ${word(event.statement.result)}${because(event.statement.why)}`;
    case "checkpoint":
      return event.checkpoint.problem
        ? `NO CHECKPOINT: ${event.checkpoint.problem}`
        : `checkpoint ${event.checkpoint.path}`;
    case "processes":
      return event.services.map((each) =>
        `${each.service} ${each.result === "left" ? "NOT ENDED" : each.result}${because(each.why)}`).join("; ");
    default:
      return "";
  }
}

function begun(event) {
  if (event.joined) return `${event.request?.actor || "another"} pressed already: following that stop`;
  return event.took_over ? "goes on from where another was cut off" : "";
}

function frozen(each) {
  if (each.result === "frozen") return `${each.service} frozen (by ${each.how})`;
  return each.result === "not_running" ? `${each.service} does not run` : `${each.service} NOT FROZEN: ${each.why}`;
}

function venueLine(event) {
  switch (event.what) {
    case "listed":
      return `${counted(event.orders, "open order")}${event.spared ? `, ${event.spared} left alone` : ""}`;
    case "cancelling":
      return `cancelling by ${Object.entries(event.means).map(([means, count]) => `${count} ${means}`).join(", ")}`;
    case "acknowledged":
      return `took the cancels of ${event.orders}; asking again`;
    case "remaining":
      return `${event.orders} still open`;
    case "waiting":
      return `waits ${event.seconds} s: ${event.why}`;
    case "not_known":
      return `not known: ${event.why}`;
    case "verified":
      return "verified zero open orders";
    case "flattening":
      return `${event.side} ${event.quantity} ${event.symbol}, reduce only`;
    case "flattened":
      return event.status === "filled" ? "" : `${event.cl_ord_id}: ${event.status.replaceAll("_", " ")}`;
    case "ended":
      return event.statement.result === "verified" ? "" : word(event.statement.result) + because(event.statement.why);
    default:
      return "";
  }
}

/** Whether all of it was done: the venues' word, a latch that lasts, and no process left. */
export const isWhole = (stated) => stated.exit_status === 0;

/** Zero of what: a stop that leaves positions is not one that has closed them. */
const ofWhat = (stated) =>
  stated.result === "verified" ? ` OPEN ORDERS${stated.flatten ? " AND POSITIONS" : ""}` : "";

export function statement(stated) {
  const verified = stated.result === "verified";
  const notAll = verified && !isWhole(stated) ? " at the venues, BUT NOT ALL OF IT IS DONE" : "";
  return h("div", { class: isWhole(stated) ? "good" : "bad" },
    h("p", {}, h("strong", {}, `Emergency stop: ${word(stated.result)}${ofWhat(stated)}${notAll}`)),
    stated.flatten ? null
      : h("p", {}, h("strong", {}, "Positions stay"), ", and were not looked at: a stop that is to flatten closes them."),
    stated.joined ? h("p", {}, "Carried out by another who pressed before; this is their statement.") : null,
    stated.by_hand ? h("p", {}, h("strong", {}, "By hand: "), stated.by_hand) : null,
    h("ul", {},
      latch(stated.latch),
      (stated.frozen ?? []).filter((each) => each.result === "not_frozen").map((each) => h("li", {}, frozen(each))),
      stated.venues.map(venue),
      (stated.strategies ?? []).map(strategy),
      stated.checkpoint?.problem ? h("li", {}, `NO CHECKPOINT: ${stated.checkpoint.problem}`) : null,
      stated.ended.filter((each) => each.result === "left").map((each) =>
        h("li", {}, `NOT ENDED: ${each.service}, pids ${each.pids.join(", ")}${because(each.why)}`)),
      stated.problems.map((each) => h("li", {}, each))),
    h("p", {}, afterwards(stated)));
}

function latch({ set, durable, problems }) {
  const told = !set ? "NOT LATCHED" : durable ? "Latched, on the disk" : "LATCHED, BUT IT MAY NOT OUTLIVE A CRASH";
  return h("li", { class: set && durable ? "" : "bad" }, `${told}${those(problems)}`);
}

function afterwards(stated) {
  if (!stated.latch.set) {
    return "Nothing holds new orders back once what was stopped is started again: set the kill switch.";
  }
  return stated.scopes.includes("desk")
    ? "The desk stays latched; opening it again opens it in safe mode."
    : `Stays latched: ${stated.scopes.join(", ")}.`;
}

function venue(each) {
  const orders = each.orders ?? [];
  const { flat } = each;
  const doubted = each.in_doubt ?? [];
  return h("li", {},
    h("strong", {}, `${each.venue}: ${word(each.result)}${each.result === "verified" ? " open orders" : ""}`), ` (${duration(each.took_s)})${because(each.why)}`,
    h("ul", {},
      orders.slice(0, LISTED_MAX).map((one) => h("li", {}, order(one))),
      orders.length > LISTED_MAX ? h("li", {}, `and ${orders.length - LISTED_MAX} more`) : null,
      each.spared?.length
        ? h("li", {}, `left alone: ${counted(each.spared.length, "order")} of others, or out of scope`)
        : null,
      doubted.length
        ? h("li", {}, `IN DOUBT, sent and in no list: ${doubted.slice(0, LISTED_MAX).join(", ")}`,
            doubted.length > LISTED_MAX ? ` and ${doubted.length - LISTED_MAX} more` : "")
        : null,
      flat ? h("li", {}, `positions: ${word(flat.result)}${because(flat.why)}`) : null,
      (flat?.positions ?? []).map((one) => h("li", {}, `open: ${one.symbol} ${one.quantity}`)),
      (flat?.dust ?? []).map((one) => h("li", {}, `dust, which no order can close: ${one.symbol} ${one.quantity}`)),
      each.not_seen ? h("li", {}, `not seen: ${each.not_seen}`) : null,
      each.by_hand ? h("li", {}, h("strong", {}, "By hand: "), each.by_hand) : null));
}

function order(each) {
  const price = each.price === null || each.price === undefined ? "" : ` at ${each.price}`;
  return `${each.symbol} ${each.side} ${each.leaves_qty}${price} (${each.cl_ord_id || each.venue_order_id})`;
}

function strategy(each) {
  return h("li", {}, h("strong", {}, `strategy ${each.strategy}: ${word(each.result)}`), because(each.why),
    each.by_hand ? h("div", {}, h("strong", {}, "By hand: "), each.by_hand) : null);
}
