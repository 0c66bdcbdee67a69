/** How classes were judged: the worst of them, and which are taken for which. */

import { h } from "../core/dom.js";
import { count, named } from "../core/format.js";
import { link } from "../core/router.js";
import { interval } from "./parts.js";

const WORST = 10;
const PAIRS = 8;

/**
 * Return how right the worst classes are.
 *
 * @param {import("../core/types.js").Class[]} classes
 * @param {import("../core/dom.js").Child} [more] Where the others are, if there are any.
 */
export function accuracyByClass(classes, more = null) {
  const measured = classes.filter(({ examples, correct }) => examples && correct !== null);
  const share = (/** @type {import("../core/types.js").Class} */ one) => (one.correct ?? 0) / (one.examples || 1);
  const worst = measured.sort((a, b) => share(a) - share(b) || (b.examples ?? 0) - (a.examples ?? 0)).slice(0, WORST);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "by-class" },
    h("h2", { id: "by-class" }, measured.length > WORST ? `Accuracy by class, the ${WORST} worst` : "Accuracy by class"),
    worst.length
      ? h("ul", { class: "intervals" }, worst.map((one) => h("li", { key: one.label }, h("a", { class: "name", dir: "auto", title: one.label, href: link("classes", one.label) }, one.label), interval(one))))
      : h("p", { class: "muted" }, "No class has been measured yet."),
    measured.length > WORST && more,
  );
}

/**
 * Return which classes are taken for which, most often first.
 * @param {import("../core/types.js").Evaluation} evaluation
 */
export function confusedPairs({ confusions }) {
  return h(
    "ol",
    { class: "plain pairs" },
    confusions.slice(0, PAIRS).map(({ label, predicted, examples }) =>
      h("li", { key: `${label} ${predicted}` }, h("span", { class: "figure" }, count(examples)), h("span", null, h("a", { href: link("classes", label) }, named(label)), " taken for ", h("a", { href: link("classes", predicted) }, named(predicted)))),
    ),
    !confusions.length && h("li", { class: "muted" }, "It made no mistake on what it was judged by."),
  );
}
