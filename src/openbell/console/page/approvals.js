// What waits for people, of every kind, and approving it.

import { h } from "./dom.js";
import { asking, button } from "./parts.js";
import { duration, moment } from "./words.js";

const KINDS = {
  step: (each) => `Step ${each.step} of ${each.run}`,
  go_on: (each) => `Does ${each.run} go on after ${each.step}?`,
  kill_switch: () => "Release of the kill switch",
  limits: () => "Looser limits",
  reconcile: () => "Adoption of what a venue says",
};

export const titleOf = (request) => (KINDS[request.kind] ?? (() => request.kind))(request);

export function approvalsView({ approvals }, problem) {
  if (!approvals) return [h("h1", {}, "Approvals"), asking(problem, "wait")];
  const { requests, needed_for: needed, people } = approvals;
  return [
    h("h1", {}, "Approvals"),
    h("div", { "data-key": "requests", class: "cards" },
      requests.length ? requests.map(requestCard) : h("p", { class: "note" }, "Nothing waits for anybody.")),
    h("p", { class: "note", "data-key": "rules" },
      needed.length
        ? `Two persons are asked for: ${needed.join(", ")}. `
        : "No single act of this desk asks for a second person. ",
      peopleOf(people)),
  ];
}

function peopleOf(people) {
  const named = Object.entries(people).map(([name, roles]) => `${name} (${roles.join(", ")})`);
  return named.length ? `People: ${named.join("; ")}.` : "No people are named in desk.toml.";
}

export function requestCard(each) {
  return h("article", { class: "card request", "data-key": each.id },
    h("h2", {}, titleOf(each)),
    each.question ? h("p", {}, each.question) : null,
    h("dl", {},
      row("asked by", each.by.join(", ")), row("reason", each.reason || "none was given"),
      each.roles.length ? row("roles", each.roles.join(", ")) : null,
      each.approved_by.length ? row("approved by", each.approved_by.join(", ")) : null,
      boundTo(each),
      row("until", `${moment(each.expires)}, in ${duration(each.expires_in_s)}`),
      row("request", h("code", {}, each.id))),
    each.why_not
      ? h("p", { class: "said", id: `why-${each.id}` }, `Yours would not count: ${each.why_not}.`)
      : null,
    h("div", { class: "buttons left" }, button("Approve…", "approve", {
      kind: "primary", request: each.id, disabled: Boolean(each.why_not),
      "aria-describedby": each.why_not ? `why-${each.id}` : null,
    })));
}

function row(name, value) {
  return h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value));
}

/** Exactly what an approval is bound to, as rows of a `dl`: where it is asked for and where it is given. */
export function boundTo(request) {
  return Object.entries(request.bound_to).map(([name, value]) => row(name.replaceAll("_", " "), bound(value)));
}

/** Lists line by line, and nothing hidden behind a name. */
function bound(value) {
  if (Array.isArray(value)) {
    return value.length ? h("ul", {}, value.map((each) => h("li", {}, told(each)))) : "none";
  }
  return value === null ? "as desk.toml says" : told(value);
}

const told = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
