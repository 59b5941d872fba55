// Pieces that several views are made of.

import { h } from "./dom.js";
import { NoAnswer, Refused, StoodAside } from "./api.js";
import { UNKNOWN, tone } from "./words.js";

/** A word with the colour of its meaning. */
export function pill(word, of = tone(word)) {
  return h("span", { class: `pill ${of}` }, word);
}

export function button(text, doing, more = {}) {
  const { kind = "", ...rest } = more;
  const data = Object.fromEntries(Object.entries(rest).map(([name, value]) => [dataName(name), value]));
  return h("button", { type: "button", class: kind, "data-do": doing, ...data }, text);
}

const dataName = (name) => (["disabled", "title", "id"].includes(name) || name.startsWith("aria-") ? name : `data-${name}`);

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

/** A plan, each step with what it would do. */
export function planList(plan) {
  return h("ol", { class: "plan" }, plan.steps.map((step) => {
    const actions = step.actions ?? [];
    const told = (step.details ?? []).map((each) => each.told).filter(Boolean);
    return h("li", { class: step.skipped || !actions.length ? "idle" : "" },
      h("span", { class: "title" }, step.title),
      step.refused ? h("p", { class: "bad" }, step.refused) : null,
      actions.length
        ? h("ul", {}, actions.map((each) => h("li", {}, each)))
        : h("p", { class: "note" }, `nothing to do: ${step.reason || "it is so already"}`),
      told.length
        ? h("details", {}, h("summary", {}, `${told.length} in detail`), h("ul", {}, told.map((each) => h("li", {}, each))))
        : null);
  }));
}

/** Why something did not happen, or why that is not known, in full. */
export function trouble(error) {
  if (error instanceof StoodAside) return h("p", {}, "It made way for something urgent. Ask again.");
  if (error instanceof NoAnswer) {
    return [
      h("p", {}, h("strong", {}, "No answer: "), `${error.message}. What was asked for may have happened or not; look before you ask again.`),
    ];
  }
  if (!(error instanceof Refused)) throw error;
  const { facts } = error;
  const listed = [
    ...(facts.blockers ?? []),
    ...(facts.checks ?? []).filter((each) => ["failed", "unknown"].includes(each.found)).map((each) => `${each.title}: ${each.detail}`),
    ...(facts.orphans ?? []).map((each) => `${each.service}: pid ${each.pid} (${each.ours ? "left over" : "foreign"}) ${each.command}`),
  ];
  return [
    h("p", {}, h("strong", {}, error.status === 403 ? "Refused: " : "Not done: "), error.message),
    listed.length ? h("ul", {}, listed.map((each) => h("li", {}, each))) : null,
    error.hint ? h("p", { class: "note" }, error.hint) : null,
  ];
}

/** What works where this page does not. */
export function atATerminal() {
  return h("div", { class: "terminal" },
    h("p", {}, "At a terminal of the desk's machine these need neither this page nor the controller:"),
    h("pre", {}, "openbell kill-switch activate --reason \"…\"\nopenbell emergency-stop --reason \"…\""));
}
