/** Two versions beside each other: facts, change by class, and the images that one had right and the other wrong. */

import { picture } from "../../components/pictures.js";
import { heatmap } from "../../components/heatmap.js";
import { confusedPairs } from "../../components/judged.js";
import { chip } from "../../components/parts.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { clock, count, counted, duration, named, percent } from "../../core/format.js";
import { go, link } from "../../core/router.js";

const SIDE = 160;
const CLASSES = 30;
const IMAGES = 12;

/** @typedef {import("../../core/types.js").Version} Version */
/** @typedef {import("../../core/types.js").Comparison} Comparison */

/** @param {Version} version */
export function stateChip({ state, active, pinned }) {
  if (active) return chip(pinned ? "live, pinned" : "live", "do");
  return chip(state, { ready: "good", rejected: "bad" }[state] ?? "");
}

/**
 * @param {Version | undefined} base
 * @param {Version} other
 */
export function facts(base, other) {
  /** @type {[string, (version: Version) => import("../../core/dom.js").Child][]} */
  const rows = [
    ["State", stateChip],
    ["Made", ({ created_ms: time }) => clock(time)],
    ["Method", ({ method }) => method],
    ["Classes", ({ classes }) => count(classes)],
    ["Accuracy", ({ accuracy }) => `${percent(accuracy.all)} of ${count(accuracy.examples)}`],
    ["On old classes", ({ accuracy }) => percent(accuracy.old)],
    ["On new classes", ({ accuracy }) => percent(accuracy.new)],
    ["The gate", ({ gate }) => (gate && gate.old_before !== null ? `old classes ${percent(gate.old_before)} → ${percent(gate.old_after)}, at least ${percent(Math.max(0, gate.old_before - gate.max_old_drop))}` : "–")],
    ["Forgetting", ({ accuracy }) => percent(accuracy.forgetting)],
    ["Took", ({ step_seconds: seconds }) => duration(seconds)],
    ["Said of it", ({ reason }) => reason || "–"],
  ];
  const both = [...(base ? [base] : []), other];
  return h(
    "table",
    { class: "facts" },
    h("thead", null, h("tr", null, h("th", null, h("span", { class: "unseen" }, "What")), both.map(({ version }) => h("th", { scope: "col", key: version }, `v${version}`)))),
    h("tbody", null, rows.map(([name, of]) => h("tr", { key: name }, h("th", { scope: "row" }, name), both.map((version) => h("td", { key: version.version }, of(version)))))),
  );
}

/**
 * @param {Comparison} comparison
 * @param {Version} base
 * @param {Version} other
 */
export function changes({ classes, gained, lost, examples }, base, other) {
  const changed = classes.filter(({ base_correct: before, other_correct: after }) => before !== after);
  const worse = changed.filter(({ base_correct: before, other_correct: after }) => after < before).length;
  const told = [[worse, "worse"], [changed.length - worse, "better"], [classes.length - changed.length, "the same"]].filter(([number]) => number).map(([number, how]) => `${counted(Number(number), "class", "classes")} ${how}`);
  return [
    h(
      "section",
      { class: "panel", "aria-labelledby": "change" },
      h("h2", { id: "change" }, `Change by class from v${base.version} to v${other.version}, worst first`),
      h("p", { class: "muted small" }, `On ${counted(examples, "example")} that both judged: ${told.join(", ")}.`),
      changed.length ? h("ul", { class: "changes" }, changed.slice(0, CLASSES).map(change)) : null,
      changed.length > CLASSES ? h("p", { class: "muted small" }, `and ${counted(changed.length - CLASSES, "more that changed", "more that changed")}`) : null,
    ),
    images(`v${base.version} had these right, v${other.version} has them wrong`, "lost", "bad", lost),
    images(`v${base.version} had these wrong, v${other.version} has them right`, "gained", "good", gained),
  ];
}

/** @param {import("../../core/types.js").Change} change */
function change({ label, examples, base_correct: before, other_correct: after }) {
  const share = (after - before) / Math.max(1, examples);
  return h(
    "li",
    { key: label },
    h("a", { class: "name", dir: "auto", title: label, href: link("classes", label) }, label),
    h("span", { class: ["swing", share < 0 ? "bad" : "good"], vars: { share: Math.abs(share) }, "aria-hidden": "true" }, h("span", { class: share < 0 ? "down" : "up" })),
    h("span", { class: "figure" }, `${before} → ${after} of ${examples}`),
  );
}

/**
 * @param {string} title
 * @param {string} id
 * @param {string} kind
 * @param {import("../../core/types.js").Differing[]} differing
 */
function images(title, id, kind, differing) {
  if (!differing.length) return null;
  return h(
    "section",
    { class: "panel", "aria-labelledby": id, key: id },
    h("h2", { id }, title, " ", chip(count(differing.length), kind)),
    h(
      "ul",
      { class: "grid-of-images" },
      differing.slice(0, IMAGES).map((one) => {
        const wrong = kind === "bad" ? one.other_predicted : one.base_predicted;
        return h(
          "li",
          { key: one.id, class: "tile still" },
          picture(address("examples/image", { label: one.label, id: one.id, side: SIDE }), `${one.label}, taken for ${wrong}`),
          h("span", { class: "beneath", dir: "auto", title: one.label }, one.label),
          h("span", { class: "beneath", title: wrong }, `${kind === "bad" ? "now" : "was"} ${named(wrong)}`),
        );
      }),
    ),
  );
}

/** @param {import("../../core/types.js").Evaluation} evaluation */
export function confusion(evaluation) {
  return h(
    "section",
    { class: "panel", "aria-labelledby": "confusion" },
    h("h2", { id: "confusion" }, `What v${evaluation.version} takes for what, in order of arrival`),
    h(
      "div",
      { class: "confusion" },
      heatmap(evaluation, (label) => go("classes", label)),
      confusedPairs(evaluation),
    ),
  );
}
