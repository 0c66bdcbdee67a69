/** A list of any length of which only what is in sight is in the document. */

import { h } from "../core/dom.js";

const ROW = 48;
const BEYOND = 8;

/**
 * @template Item
 * @typedef {object} LongList
 * @property {string} title
 * @property {Item[]} items
 * @property {(item: Item) => string} id
 * @property {(item: Item) => import("../core/dom.js").Child} row
 * @property {string} chosen The id of the one that is chosen.
 * @property {(item: Item) => void} choose
 * @property {{top: number, height: number}} scroll Where it stands; kept by the view.
 * @property {() => void} scrolled Draws anew.
 */

/**
 * Return the list. Up, down, Home, End and the page keys choose.
 *
 * @template Item
 * @param {LongList<Item>} list
 */
export function longList({ title, items, id, row, chosen, choose, scroll, scrolled }) {
  const first = Math.max(0, Math.floor(scroll.top / ROW) - BEYOND);
  const last = Math.min(items.length, Math.ceil((scroll.top + scroll.height) / ROW) + BEYOND);
  const at = items.findIndex((item) => id(item) === chosen);
  const seen = at >= first && at < last;
  return h(
    "div",
    {
      class: "long-list",
      role: "listbox",
      tabindex: "0",
      "aria-label": title,
      "aria-activedescendant": seen ? `row-${at}` : undefined,
      ref: (/** @type {HTMLElement} */ element) => watch(element, scroll, scrolled),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const page = Math.max(1, Math.floor(scroll.height / ROW) - 1);
        const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -items.length, End: items.length }[event.key];
        if (step === undefined || !items.length) return;
        event.preventDefault();
        const next = Math.max(0, Math.min(items.length - 1, at + step));
        show(/** @type {HTMLElement} */ (event.currentTarget), next);
        const item = items[next];
        if (item !== undefined) choose(item);
      },
    },
    h(
      "div",
      { class: "whole", role: "presentation", vars: { rows: items.length } },
      items.slice(first, last).map((item, offset) =>
        h(
          "div",
          {
            key: id(item),
            id: `row-${first + offset}`,
            class: "row",
            role: "option",
            vars: { at: first + offset },
            "aria-selected": String(id(item) === chosen),
            "aria-setsize": items.length,
            "aria-posinset": first + offset + 1,
            onclick: () => choose(item),
          },
          row(item),
        ),
      ),
    ),
  );
}

/**
 * @param {HTMLElement} element
 * @param {{top: number, height: number}} scroll
 * @param {() => void} scrolled
 */
function watch(element, scroll, scrolled) {
  element.addEventListener("scroll", () => {
    scroll.top = element.scrollTop;
    scrolled();
  });
  new ResizeObserver(() => {
    if (scroll.height === element.clientHeight) return;
    scroll.height = element.clientHeight;
    scrolled();
  }).observe(element);
}

/**
 * @param {HTMLElement} element
 * @param {number} at
 */
function show(element, at) {
  const top = at * ROW;
  if (top < element.scrollTop) element.scrollTop = top;
  else if (top + ROW > element.scrollTop + element.clientHeight) element.scrollTop = top + ROW - element.clientHeight;
}
