// What is shown, as nodes. Text becomes text nodes and nothing else: there is no way from a string to
// markup in this file, and the page has no other.

const PLAIN_ATTRIBUTE = /^(?!on)[a-z][a-z-]*$/;

/** An element. `props`: attributes; null, undefined and false leave one out. Children: nodes, text,
 * numbers, lists of them; null and false are left out. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (!PLAIN_ATTRIBUTE.test(name)) throw new TypeError(`no such attribute here: ${name}`);
    // Addresses are the page's own: none is made of what the API says.
    if (name === "href" && !/^(#|\/api\/v1\/docs$)/.test(value)) throw new TypeError("a foreign address");
    if (name === "src" || name === "style") throw new TypeError(`no ${name} here`);
    made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...nodes(children));
  return made;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((each) => each !== null && each !== undefined && each !== false)
    .map((each) => (each instanceof Node ? each : document.createTextNode(String(each))));
}

/** Gives a person a file: the one address that is not the page's own, of what it holds itself. */
export function saveFile(name, text, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Makes the children of `host` what is given, keeping the nodes that are there: focus, scroll, open
 * details and what a person typed stay. Children with `data-key` keep their node when they move. */
export function fill(host, ...children) {
  patchChildren(host, nodes(children));
}

function patchChildren(host, wanted) {
  const keyed = new Map();
  for (const child of host.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = host.firstChild;
  for (const next of wanted) {
    const key = next.dataset?.key;
    let match = null;
    if (key) {
      match = keyed.get(key) ?? null;
      keyed.delete(key); // Of two of one name the second is a node of its own.
    }
    if (!key && at && alike(at, next)) match = at;
    if (match && match.nodeName !== next.nodeName) match = null;
    if (!match) {
      host.insertBefore(next, at);
    } else {
      if (match === at) at = at.nextSibling;
      else host.insertBefore(match, at);
      patch(match, next);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  return one.nodeName === other.nodeName && !one.dataset?.key;
}

function patch(there, wanted) {
  if (there.nodeType === Node.TEXT_NODE) {
    if (there.data !== wanted.data) there.data = wanted.data;
    return;
  }
  for (const { name } of [...there.attributes]) {
    // Whether it is open is the person's, not ours.
    if (!wanted.hasAttribute(name) && name !== "open") there.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name !== "open" && there.getAttribute(name) !== value) there.setAttribute(name, value);
  }
  if (there.nodeName === "PROGRESS") there.value = Number(wanted.getAttribute("value"));
  patchChildren(there, [...wanted.childNodes]);
}
