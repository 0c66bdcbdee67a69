/** The likeliest labels of an image with their probabilities: to read, or to choose from by 1 to 5. */

import { h } from "../core/dom.js";
import { percent } from "../core/format.js";
import { bar, chip, keycap } from "./parts.js";

const MOST = 5;

/**
 * @param {import("../core/types.js").Ranked[]} labels
 * @param {((label: string) => void) | null} choose Null: they are to be read alone.
 */
export function ranked(labels, choose) {
  return h("ol", { class: "ranked" }, labels.slice(0, MOST).map((one, at) => h("li", { key: at }, row(one, at + 1, choose))));
}

/**
 * @param {import("../core/types.js").Ranked} one
 * @param {number} number
 * @param {((label: string) => void) | null} choose
 */
function row({ label, probability, provisional }, number, choose) {
  const parts = [
    h("span", { class: "label", dir: "auto", title: label }, label),
    provisional && chip("provisional", "warn"),
    h("span", { class: "figure" }, percent(probability)),
    bar(probability),
  ];
  if (!choose) return h("div", { class: "answer" }, parts);
  const clicked = (/** @type {MouseEvent} */ event) => {
    // Else the space bar would choose it again, for whatever is shown next.
    if (event.detail) /** @type {HTMLElement} */ (event.currentTarget).blur();
    choose(label);
  };
  return h("button", { type: "button", class: "answer", onclick: clicked }, keycap(String(number)), parts);
}
