/**
 * Elements described as values, and the document brought up to date with them in place: focus, selection, scroll
 * position and running transitions stay. Text is text alone, whatever is in it: nothing here parses HTML.
 */

/** @typedef {{tag: string, props: Props, children: Part[], key: unknown}} Described */
/** @typedef {Record<string, any>} Props */
/** @typedef {Described | string | Node} Part */
/** @typedef {Part | number | null | undefined | boolean | Child[]} Child */
/** @typedef {{part: Part, node: Node}} Shown */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "polyline", "text", "title"]);
/** What is set as a property, since the attribute of that name is only where it starts. */
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "srcObject", "muted", "open"]);

/** @type {WeakMap<Node, Shown[]>} */
const shown = new WeakMap();

/**
 * Describe an element.
 *
 * @param {string} tag Of HTML or of a drawing.
 * @param {Props | null} [props] Attributes; `onclick` and its like; `vars`: custom properties of style; `key`: which
 *   of its siblings it is; `ref`: called with the element when it has been made.
 * @param {...Child} children What is false, null or undefined is left out.
 * @returns {Described}
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flat(children), key: props?.key };
}

/**
 * Bring what is in an element up to date.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function render(parent, ...children) {
  patch(parent, flat(children));
}

/**
 * @param {Child[]} children
 * @returns {Part[]}
 */
function flat(children) {
  /** @type {Part[]} */
  const parts = [];
  for (const child of children) {
    if (Array.isArray(child)) parts.push(...flat(child));
    else if (typeof child === "number") parts.push(String(child));
    else if (child && typeof child !== "boolean") parts.push(child);
  }
  return parts;
}

/**
 * @param {Node} parent
 * @param {Part[]} parts
 */
function patch(parent, parts) {
  if (!shown.has(parent)) parent.textContent = "";
  const before = shown.get(parent) ?? [];
  const free = new Set(before);
  /** @type {Map<unknown, Shown>} */
  const keyed = new Map();
  for (const one of before) if (keyOf(one.part) !== undefined) keyed.set(keyOf(one.part), one);
  const unkeyed = before.filter((one) => keyOf(one.part) === undefined);
  let next = 0;
  const now = parts.map((part) => {
    const key = keyOf(part);
    let old = key === undefined ? unkeyed[next++] : keyed.get(key);
    if (old && (!free.has(old) || !fits(old.part, part))) old = undefined;
    if (old) free.delete(old);
    return { part, node: old ? update(old, part) : make(part) };
  });
  for (const { node } of free) if (node.parentNode === parent) parent.removeChild(node);
  let place = parent.firstChild;
  for (const { node } of now) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  shown.set(parent, now);
}

/** @param {Part} part */
function keyOf(part) {
  return typeof part === "string" || part instanceof Node ? undefined : part.key;
}

/**
 * @param {Part} old
 * @param {Part} part
 */
function fits(old, part) {
  if (typeof old === "string" || typeof part === "string") return typeof old === typeof part;
  if (old instanceof Node || part instanceof Node) return old === part;
  return old.tag === part.tag;
}

/** @param {Part} part */
function make(part) {
  if (typeof part === "string") return document.createTextNode(part);
  if (part instanceof Node) return part;
  const element = SVG_TAGS.has(part.tag) ? document.createElementNS(SVG, part.tag) : document.createElement(part.tag);
  // Options come first: a choice among none chooses nothing.
  patch(element, part.children);
  assign(element, {}, part.props);
  part.props["ref"]?.(element);
  return element;
}

/**
 * @param {Shown} old
 * @param {Part} part
 */
function update(old, part) {
  if (typeof part === "string") {
    if (old.part !== part) old.node.textContent = part;
  } else if (!(part instanceof Node)) {
    patch(old.node, part.children);
    assign(/** @type {Element} */ (old.node), /** @type {Described} */ (old.part).props, part.props);
  }
  return old.node;
}

/**
 * @param {any} element
 * @param {Props} before
 * @param {Props} props
 */
function assign(element, before, props) {
  for (const name of Object.keys({ ...before, ...props })) {
    if (name === "key" || name === "ref") continue;
    const value = props[name];
    if (name === "vars") variables(element, before[name] ?? {}, value ?? {});
    else if (value === before[name]) continue;
    else if (name.startsWith("on")) element[name] = value ?? null;
    else if (PROPERTIES.has(name)) element[name] = value ?? "";
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
  }
}

/**
 * @param {HTMLElement} element
 * @param {Record<string, string | number>} before
 * @param {Record<string, string | number>} after
 */
function variables(element, before, after) {
  for (const [name, value] of Object.entries(after)) {
    if (before[name] !== value) element.style.setProperty(`--${name}`, String(value));
  }
}
