/** One class: how well it is known, what it is confused with, and its worst mistakes. */

import { picture } from "../../components/pictures.js";
import { bar, button, chip, figure, interval } from "../../components/parts.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { count, named, percent } from "../../core/format.js";
import { link } from "../../core/router.js";

const SIDE = 192;
const WORST = 12;

/** @typedef {import("../../core/types.js").Class} Class */

/**
 * @param {Class} one
 * @param {{rename: () => void, merge: () => void, forget: () => void}} act
 * @param {boolean} operator
 */
export function summary(one, act, operator) {
  return [
    h(
      "div",
      { class: "head" },
      h("div", { class: "title" }, h("a", { class: "back button quiet", href: link("classes") }, "← All classes"), h("h2", { class: "class-name", dir: "auto" }, one.label), chip(one.state, one.state === "learned" ? "good" : "warn")),
      operator && h("div", { class: "buttons" }, button("Rename", act.rename, { key: "r" }), button("Merge", act.merge, { key: "m" }), button("Forget", act.forget, { key: "F", kind: "bad" })),
    ),
    h(
      "dl",
      { class: "figures" },
      figure("Known since", one.since_version ? `v${one.since_version}` : "not yet"),
      figure("Exemplars", count(one.exemplars)),
      figure("Hold-out", count(one.holdout)),
      figure("Not learned yet", count(one.pending)),
    ),
    h("section", { class: "panel", "aria-labelledby": "right" }, h("h3", { id: "right" }, "How often it is right, with its 95 % interval"), interval(one)),
  ];
}

/** @param {Class} one */
export function confusions({ confused_with: confused, examples, label }) {
  if (!confused?.length) return null;
  const most = Math.max(...confused.map(({ examples: number }) => number));
  return h(
    "section",
    { class: "panel", "aria-labelledby": "confused" },
    h("h3", { id: "confused" }, `What ${named(label)} is taken for`),
    h(
      "ul",
      { class: "bars" },
      confused.slice(0, 8).map(({ label: other, examples: number }) =>
        h(
          "li",
          { key: other },
          h("a", { class: "name", dir: "auto", title: other, href: link("classes", other) }, other),
          bar(number / most, "bad"),
          h("span", { class: "figure" }, count(number)),
          h("span", { class: "muted small" }, examples ? percent(number / examples) : ""),
        ),
      ),
    ),
  );
}

/**
 * @param {import("../../core/types.js").Evaluation | null} evaluation
 * @param {string} label
 */
export function offenders(evaluation, label) {
  const mistakes = evaluation?.mistakes.filter((one) => one.label === label).slice(0, WORST) ?? [];
  if (!mistakes.length) return null;
  return h(
    "section",
    { "aria-labelledby": "worst" },
    h("h3", { id: "worst" }, "Its worst mistakes, most certain first"),
    h(
      "ul",
      { class: "grid-of-images" },
      mistakes.map(({ id, predicted, probability }) =>
        h(
          "li",
          { key: id, class: "tile still" },
          picture(address("examples/image", { label, id, side: SIDE }), `${label}, taken for ${predicted}`),
          h("span", { class: "beneath bad", title: predicted }, `${named(predicted)} ${percent(probability, 0)}`),
        ),
      ),
    ),
  );
}
