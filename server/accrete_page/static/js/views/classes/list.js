/** The classes to choose from: found by name, in some order. */

import { longList } from "../../components/longlist.js";
import { chip, meaning } from "../../components/parts.js";
import { h } from "../../core/dom.js";
import { count, counted, percent } from "../../core/format.js";

/** @typedef {import("../../core/types.js").Class} Class */
/** @typedef {"arrival" | "worst" | "name" | "fewest"} Order */

/** @type {[Order, string][]} */
const ORDERS = [["arrival", "Arrival"], ["worst", "Worst first"], ["name", "Name"], ["fewest", "Fewest kept"]];

/**
 * Return the classes that fit what was typed, in order.
 *
 * @param {Class[]} classes In the order of arrival.
 * @param {string} typed
 * @param {Order} order
 */
export function chosenClasses(classes, typed, order) {
  const wanted = typed.trim().toLowerCase();
  const found = classes.filter(({ label }) => label.toLowerCase().includes(wanted));
  if (order === "worst") found.sort((a, b) => share(a) - share(b));
  if (order === "name") found.sort((a, b) => a.label.localeCompare(b.label));
  if (order === "fewest") found.sort((a, b) => kept(a) - kept(b));
  return found;
}

/** @param {Class} one */
function share({ correct, examples }) {
  return examples && correct !== null ? correct / examples : 2;
}

/** @param {Class} one */
function kept({ exemplars, holdout, pending }) {
  return exemplars + holdout + pending;
}

/**
 * @param {object} shown
 * @param {Class[]} shown.all
 * @param {Class[]} shown.found
 * @param {string} shown.typed
 * @param {Order} shown.order
 * @param {string} shown.chosen
 * @param {{top: number, height: number}} shown.scroll
 * @param {{type: (text: string) => void, sort: (order: Order) => void, choose: (label: string) => void, scrolled: () => void}} act
 */
export function classList({ all, found, typed, order, chosen, scroll }, act) {
  return h(
    "div",
    { class: "choose-class" },
    h(
      "div",
      { class: "filters" },
      h("input", {
        type: "search",
        id: "find-class",
        value: typed,
        placeholder: "Find a class  /",
        "aria-label": "Find a class",
        autocomplete: "off",
        oninput: (/** @type {InputEvent} */ event) => act.type(/** @type {HTMLInputElement} */ (event.target).value),
      }),
      h(
        "select",
        { "aria-label": "Order", value: order, onchange: (/** @type {Event} */ event) => act.sort(/** @type {Order} */ (/** @type {HTMLSelectElement} */ (event.target).value)) },
        ORDERS.map(([name, text]) => h("option", { value: name }, text)),
      ),
    ),
    h("p", { class: "muted small", role: "status" }, found.length === all.length ? counted(all.length, "class", "classes") : `${count(found.length)} of ${counted(all.length, "class", "classes")}`),
    longList({ title: "Classes", items: found, id: ({ label }) => label, row, chosen, choose: ({ label }) => act.choose(label), scroll, scrolled: act.scrolled }),
  );
}

/** @param {Class} one */
function row(one) {
  const measured = share(one);
  return [
    h("span", { class: "label", dir: "auto", title: one.label }, one.label),
    one.state !== "learned" && chip(one.state, one.state === "forgotten" ? "bad" : "warn"),
    h("span", { class: "muted small" }, count(kept(one))),
    h("span", { class: ["figure", meaning(one)] }, measured <= 1 ? percent(measured, 0) : "–"),
  ];
}
