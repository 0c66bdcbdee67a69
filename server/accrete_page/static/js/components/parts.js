/** Small parts that all views use. */

import { sentence } from "../core/api.js";
import { h } from "../core/dom.js";
import { percent } from "../core/format.js";
import { icon } from "./icons.js";

/** @typedef {import("../core/dom.js").Child} Child */

/**
 * Return a bar of a share; what it shows is written beside it by whoever uses it.
 *
 * @param {number} share 0 to 1.
 * @param {string} [meaning] "good", "warn", "bad" or "do".
 */
export function bar(share, meaning = "do") {
  const width = Math.min(Math.max(share || 0, 0), 1);
  return h("span", { class: ["bar", meaning], "aria-hidden": "true" }, h("span", { class: "fill", vars: { share: width } }));
}

/**
 * Return whether a class is known well ("good"), for sure not ("bad"), or neither for what is known of it ("warn").
 *
 * @param {{correct: number | null, examples: number | null, high: number | null}} judged
 */
export function meaning({ correct, examples, high }) {
  if (!examples || correct === null || high === null) return "";
  return correct / examples >= 0.9 ? "good" : high < 0.8 ? "bad" : "warn";
}

/**
 * Return a share on a line from 0 to 1 with its 95 % interval.
 *
 * @param {{correct: number | null, examples: number | null, low: number | null, high: number | null}} judged
 */
export function interval(judged) {
  const { correct, examples, low, high } = judged;
  if (!examples || correct === null || low === null || high === null) return h("span", { class: "muted" }, "not measured");
  const share = correct / examples;
  return h(
    "span",
    { class: "interval" },
    h(
      "span",
      { class: ["whisker", meaning(judged)], vars: { low, high, share }, "aria-hidden": "true" },
      h("span", { class: "range" }),
      h("span", { class: "point" }),
    ),
    h("span", { class: "figure" }, percent(share)),
    h("span", { class: "muted small bounds" }, `${percent(low, 0)} to ${percent(high, 0)} of ${examples}`),
  );
}

/**
 * Return a state in a word with its colour.
 *
 * @param {string} text
 * @param {string} [meaning]
 */
export function chip(text, meaning = "") {
  return h("span", { class: ["chip", meaning] }, text);
}

/** @param {string} text */
export function keycap(text) {
  return h("kbd", null, text);
}

/**
 * Return a button.
 *
 * @param {string} text
 * @param {() => void} run
 * @param {{kind?: string, key?: string, icon?: string, disabled?: boolean, title?: string, pressed?: boolean}} [options]
 */
export function button(text, run, { kind = "", key, icon: drawing, disabled = false, title, pressed } = {}) {
  const props = { type: "button", class: ["button", kind], onclick: run, disabled, title, "aria-pressed": pressed === undefined ? undefined : String(pressed) };
  return h("button", props, drawing && icon(drawing), key && keycap(key), h("span", null, text));
}

/**
 * Return choices of which one is on.
 *
 * @template {string} Name
 * @param {string} title
 * @param {[Name, string][]} choices
 * @param {Name} chosen
 * @param {(name: Name) => void} choose
 */
export function choices(title, choices, chosen, choose) {
  return h(
    "div",
    { class: "choices", role: "group", "aria-label": title },
    choices.map(([name, text]) => button(text, () => choose(name), { pressed: name === chosen })),
  );
}

/**
 * Return what went wrong, at the place where it did; nothing where nothing did. Read out by screen readers.
 *
 * @param {unknown} error
 * @param {() => void} [dismiss]
 */
export function trouble(error, dismiss) {
  return h(
    "div",
    { role: "alert", class: "alerts" },
    error ? h("p", { class: "notice bad" }, h("span", null, sentence(error)), dismiss && button("Dismiss", dismiss, { kind: "quiet" })) : null,
  );
}

/**
 * Return what a view says while it has nothing to show: what it is for and what to do.
 *
 * @param {string} title
 * @param {...Child} children
 */
export function empty(title, ...children) {
  return h("div", { class: "empty" }, h("h2", null, title), children);
}

/** @param {string} what */
export function loading(what) {
  return h("p", { class: "muted loading", role: "status" }, `${what} …`);
}

/**
 * Return a command to type, which is selected as a whole.
 * @param {string} text
 */
export function command(text) {
  return h("code", { class: "command" }, text);
}

/**
 * Return a figure with its name, as a pair of a description list.
 *
 * @param {string} name
 * @param {Child} value
 * @param {Child} [beside]
 */
export function figure(name, value, beside) {
  return h("div", { class: "figure-of", key: name }, h("dt", null, name), h("dd", null, h("span", { class: "value" }, value), beside && h("span", { class: "muted small" }, beside)));
}
