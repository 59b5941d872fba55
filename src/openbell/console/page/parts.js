// Pieces that several views are made of.

import { h } from "./dom.js";
import { NoAnswer, Refused, StoodAside } from "./api.js";
import { UNKNOWN, duration, tone } from "./words.js";

/** A word with the colour of its meaning. */
export function pill(word, of = tone(word)) {
  return h("span", { class: `pill ${of}` }, word);
}

export function button(text, doing, more = {}) {
  const { kind = "", ...rest } = more;
  const data = Object.fromEntries(Object.entries(rest).map(([name, value]) => [dataName(name), value]));
  return h("button", { type: "button", class: kind, "data-do": doing, ...data }, text);
}

const dataName = (name) =>
  (["disabled", "title", "id"].includes(name) || name.startsWith("aria-") ? name : `data-${name}`);

/** A titled part of a page; `key` keeps its node among its neighbours. */
export function section(key, title, ...children) {
  return h("section", { "data-key": key, "aria-label": title }, h("h2", {}, title), ...children);
}

/** `columns`: `[title, row => cell, "number" or ""]`. On a narrow screen each row becomes a card. */
export function table(caption, columns, rows, keyOf) {
  return h("div", { class: "table" },
    h("table", {},
      h("caption", { class: "hidden-visually" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) =>
        h("tr", { "data-key": keyOf(row) }, columns.map(([title, cell, kind], place) => {
          const shown = cell(row);
          const empty = shown === null || shown === undefined || shown === "";
          const tag = place === 0 ? "th" : "td";
          return h(tag, {
            class: [kind, shown === UNKNOWN && "unknown", empty && "empty"].filter(Boolean).join(" ") || null,
            scope: place === 0 ? "row" : null, "data-title": title,
          }, empty ? "" : shown);
        }))))));
}

/** A labelled fact of the top of a view. */
export function fact(label, value, note = "", of = "") {
  return h("div", { class: `fact ${of}`, "data-key": label },
    h("div", { class: "label" }, label),
    h("div", { class: "value" }, value),
    note ? h("div", { class: "note" }, note) : null);
}

/** A plan: what is refused as things are, what it goes on with, and each step with what it would do. */
export function planList(plan) {
  return [
    plan.refused?.length
      ? h("div", { class: "said bad", "data-key": "refused" },
          h("p", {}, "Refused as things are:"), h("ul", {}, plan.refused.map((each) => h("li", {}, each))))
      : null,
    goesOn(plan).map((each) => h("p", { class: "said" }, each)),
    planSteps(plan),
    (plan.notes ?? []).map((each) => h("p", { class: "note" }, each)),
  ];
}

/** With which run that was cut off is gone on. */
function goesOn({ goes_on_with: closing, goes_on: restart }) {
  if (closing) return [`It ${closing.told}.`];
  if (!restart) return [];
  const at = restart.step ? ` at ${restart.step}` : "";
  const cutOff = restart.run ? `${restart.run} was cut off${at}` : "it is closed";
  return [
    `It goes on with the restart that ${restart.by || "somebody"} began: ${cutOff}; as it was asked for then, and `
    + "what follows is what is left. The desk is opened again.",
  ];
}

function planSteps(plan) {
  return h("ol", { class: "plan" }, plan.steps.map((step) => {
    const actions = step.actions ?? [];
    const told = (step.details ?? []).map((each) => each.told).filter(Boolean);
    return h("li", { class: step.skipped || !actions.length ? "idle" : "" },
      h("span", { class: "title" }, step.title),
      actions.length
        ? h("ul", {}, actions.map((each) => h("li", {}, each)))
        : h("p", { class: "note" }, `nothing to do: ${step.reason || "it is so already"}`),
      told.length
        ? h("details", {},
            h("summary", {}, `${told.length} in detail`), h("ul", {}, told.map((each) => h("li", {}, each))))
        : null);
  }));
}

const logged = new WeakSet();

const MAYBE = " What was asked for may have happened or not; look before you ask again.";

/** Why something did not happen, or why that is not known, in full. `maybe`: what follows where it is not known. */
export function trouble(error, maybe = MAYBE) {
  if (error instanceof StoodAside) return h("p", {}, "It made way for something urgent. Ask again.");
  if (!(error instanceof Refused)) {
    const known = error instanceof NoAnswer;
    if (!known && !logged.has(error)) console.error(error);
    logged.add(error);
    return h("p", {}, h("strong", {}, known ? "No answer: " : "A defect of this page: "),
      `${error.message}.${maybe}`);
  }
  const { facts } = error;
  const listed = [
    ...(facts.blockers ?? []),
    ...(facts.checks ?? [])
      .filter((each) => ["failed", "unknown"].includes(each.found))
      .map((each) => `${each.title}: ${each.detail}`),
    ...(facts.orphans ?? []).map((each) =>
      `${each.service}: pid ${each.pid} (${each.ours ? "left over" : "foreign"}) ${each.command}`),
  ];
  return [
    h("p", {}, h("strong", {}, error.status === 403 ? "Refused: " : "Not done: "), error.message),
    listed.length ? h("ul", {}, listed.map((each) => h("li", {}, each))) : null,
    error.hint ? h("p", { class: "note" }, error.hint) : null,
  ];
}

/** What is shown of a question that has no answer any more, and since when; nothing where it has one. `ageS`: null
 * where it never had one. */
export function noLonger(key, { error, ageS }) {
  if (!error) return null;
  return h("div", { class: "said bad", "data-key": key },
    h("div", { role: "alert" }, trouble(error, "")),
    ageS === null ? null : h("p", {}, "What is shown was so ", h("span", { class: "age" }, duration(ageS)), " ago."));
}

/** What stands where an answer is waited for. */
export const asking = (error, key = null) => (error ? null : h("p", { class: "note", "data-key": key }, "Asking…"));

/** What works where this page does not. */
export function atATerminal() {
  return h("div", { class: "terminal" },
    h("p", {}, "At a terminal of the desk's machine these need neither this page nor the controller:"),
    h("pre", {}, "openbell kill-switch activate --reason \"…\"\nopenbell emergency-stop --reason \"…\""));
}
