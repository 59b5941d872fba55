// One dialog at a time: what is asked, its plan, its fields, and what came of it.

import { fill, h } from "./dom.js";
import { planList, trouble } from "./parts.js";

const dialog = () => document.getElementById("dialog");

/** Whether what was confirmed is under way: the dialog then stays, as nothing else tells what came of it. */
let working = false;
export const isWorking = () => working;

// A browser closes a dialog at the second Escape whatever the first one's `cancel` was told, so the key is held too.
document.addEventListener("cancel", keepWhileWorking, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") keepWhileWorking(event);
}, true);

function keepWhileWorking(event) {
  if (working) event.preventDefault();
}

/** Asks a person; not while another dialog is open, whose outcome it would take away. `fields`: `[{name, label,
 * kind, value, options, required, help}]`. `plan(values)`: a promise of a plan that is shown beside, asked again
 * where a field changes; with `planFirst` nothing can be confirmed before it is there.
 * `confirm(values, outcome)` does it; `outcome(...nodes)` shows what comes of it, while it goes on too. All of
 * that is read out by the one live region of the dialog, and what is shown brings none of its own. */
export function ask(
  { title, danger = false, intro = [], fields = [], plan = null, planFirst = false, label, confirm },
) {
  if (dialog().open) return;
  const planned = h("div", { class: "planned" });
  const outcome = h("div", { class: "outcome", role: "alert", "aria-atomic": "false" });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const leave = h("button", { type: "button", "data-do": "leave-dialog" }, "Cancel");
  const form = h("form", { class: danger ? "dangerous" : "" },
    h("h2", { id: "dialog-title" }, title),
    intro,
    h("div", { class: "fields" }, fields.map(field)),
    planned, outcome,
    h("div", { class: "buttons" }, leave, go));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void carryOut();
  });
  const show = (...nodes) => {
    fill(outcome, h("div", { class: "said" }, nodes));
    outcome.scrollIntoView({ block: "nearest" });
  };

  async function carryOut() {
    if (go.disabled) return;
    const values = valuesOf(form, fields);
    go.disabled = true;
    leave.disabled = true;
    working = true;
    show(h("p", {}, "Asking…"));
    let over = true;
    try {
      over = (await confirm(values, show)) !== false;
    } catch (error) {
      fill(outcome, h("div", { class: "said bad" }, trouble(error)));
      over = false;
    } finally {
      working = false;
    }
    leave.disabled = false;
    if (over) {
      go.hidden = true;
      leave.textContent = "Close";
      for (const each of form.querySelectorAll("input, select")) each.disabled = true;
      leave.focus();
    } else {
      go.disabled = false;
    }
  }

  let newest = 0;

  async function showPlan() {
    newest += 1;
    const mine = newest;
    if (planFirst) go.disabled = true;
    fill(planned, h("p", { class: "note" }, "Asking what would be done…"));
    let shown;
    try {
      shown = [h("h3", {}, "What will be done"), planList(await plan(valuesOf(form, fields)))];
      if (planFirst && mine === newest) go.disabled = false;
    } catch (error) {
      shown = [h("h3", {}, "What would be done is not known"), trouble(error)];
    }
    if (mine === newest) fill(planned, shown);
  }

  dialog().replaceChildren(form);
  if (!dialog().open) dialog().showModal();
  if (plan) {
    void showPlan();
    form.addEventListener("change", (event) => {
      if (event.target.name !== REASON.name) void showPlan();
    });
  }
  const first = form.querySelector(".fields [autofocus]") ?? form.querySelector(".fields input, .fields select");
  (first ?? leave).focus();
}

export function leaveDialog() {
  dialog().close();
  dialog().replaceChildren();
}

/** A labelled control. Kinds: `text`, `check`, `choice`. */
export function field(
  { name, label, kind = "text", value = "", options = [], required = false, help = "", focus = false },
) {
  const id = `field-${name}`;
  const described = help ? `${id}-help` : null;
  const shared = { id, name, required, "aria-describedby": described, autofocus: focus };
  const note = help ? h("p", { class: "note", id: described }, help) : null;
  if (kind === "check") {
    return h("div", { class: "field check" },
      h("label", { for: id }, h("input", { type: "checkbox", ...shared, checked: Boolean(value) }), " ", label), note);
  }
  let control;
  if (kind === "choice") {
    control = h("select", shared,
      options.map(([each, text]) => h("option", { value: each, selected: each === value }, text)));
  } else {
    control = h("input", {
      type: "text", ...shared, value, maxlength: 500, autocomplete: "off", spellcheck: "false",
      list: options.length ? `${id}-list` : null,
    });
  }
  return h("div", { class: "field" },
    h("label", { for: id }, label), control,
    kind !== "choice" && options.length
      ? h("datalist", { id: `${id}-list` }, options.map((each) => h("option", { value: each })))
      : null,
    note);
}

export function valuesOf(form, fields) {
  return Object.fromEntries(fields.map(({ name, kind }) => {
    const control = form.elements.namedItem(name);
    return [name, kind === "check" ? control.checked : control.value.trim()];
  }));
}

export const REASON = {
  name: "reason", label: "Reason", required: true, help: "Kept in the audit log.", focus: true,
};
