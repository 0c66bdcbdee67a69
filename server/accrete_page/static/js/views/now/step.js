/** The step that runs or is waited for, and what the gate said of the last one. */

import { bar, chip } from "../../components/parts.js";
import { sparkline } from "../../components/chart.js";
import { h } from "../../core/dom.js";
import { count, counted, duration, few, percent } from "../../core/format.js";
import { link } from "../../core/router.js";

/** @typedef {import("../../core/types.js").Now} Now */

/** @type {Record<string, {name: string, meaning: string}>} */
const PHASES = {
  waiting: { name: "Waiting", meaning: "Nothing to do, or not enough pending to start a step." },
  staging: { name: "Staging", meaning: "What is pending is read and handed to the trainer." },
  training: { name: "Training", meaning: "The step runs." },
  gating: { name: "Measuring", meaning: "The candidate is measured against the live version." },
  committing: { name: "Committing", meaning: "The candidate becomes a version." },
  paused: { name: "Paused", meaning: "No step starts until learning is resumed." },
  blocked: { name: "Blocked", meaning: "No step can start from the newest version." },
};
const MOST = 12;

/**
 * Return what the learner does: a bar for each stage with the time left, the loss as it falls.
 *
 * @param {import("../../core/live.js").Live} live
 * @param {Now} now
 */
export function learning(live, { status }) {
  const { name, meaning } = PHASES[status.phase] ?? { name: status.phase, meaning: "" };
  const running = ["staging", "training", "gating", "committing"].includes(status.phase);
  const kind = running ? "do" : status.phase === "blocked" ? "bad" : status.phase === "paused" ? "warn" : "";
  return h(
    "section",
    { class: "panel", "aria-labelledby": "learning" },
    h("h2", { id: "learning" }, "Learning ", chip(status.learner_alive ? name : "No learner", status.learner_alive ? kind : "bad")),
    h("p", { role: "status" }, status.learner_alive ? status.phase_reason || meaning : "No learner runs. What is taught is kept, and is learned when one starts."),
    running || status.progress ? stages(live, status) : null,
    live.losses.length > 1 && (running || status.progress) ? loss(live.losses) : null,
    status.waits_for.length ? h("ul", { class: "plain" }, status.waits_for.map((text) => h("li", { key: text }, text))) : null,
    status.deep ? h("p", { class: "muted" }, `Deep step: ${status.deep}`) : null,
  );
}

/**
 * @param {import("../../core/live.js").Live} live
 * @param {Now["status"]} status
 */
function stages({ stages: seen }, { progress }) {
  return h(
    "ul",
    { class: "stages", "aria-label": "Stages of the step" },
    [...seen].map(([stage, { done, total }]) => {
      const current = progress?.stage === stage;
      const left = current && progress?.left_s ? `${duration(progress.left_s)} left` : "";
      return h(
        "li",
        { key: stage },
        h("span", { class: "name" }, stage),
        bar(done / Math.max(1, total), done >= total ? "good" : "do"),
        h("span", { class: "figure" }, `${count(done)} of ${count(total)}`),
        h("span", { class: "muted small" }, left),
      );
    }),
  );
}

/** @param {number[]} losses */
function loss(losses) {
  const last = losses.at(-1) ?? 0;
  return h(
    "div",
    { class: "loss" },
    h("span", null, "Loss ", h("b", null, last.toPrecision(3))),
    sparkline(losses, `Loss by epoch, from ${losses[0]?.toPrecision(3)} to ${last.toPrecision(3)}`),
  );
}

/** @param {Now} now */
export function verdict({ versions }) {
  const last = versions?.find(({ state }) => state !== "retired");
  if (!last) return null;
  const parent = versions?.find(({ version }) => version === last.parent);
  const rejected = last.state === "rejected";
  const { accuracy, reason, gate } = last;
  const [said = "", kind] = rejected ? ["rejected", "bad"] : reason.startsWith("not judged") ? ["too few to judge by", "warn"] : ["passed", "good"];
  const rows = [
    { name: "Old classes", before: gate?.old_before ?? parent?.accuracy.all, after: gate?.old_after ?? accuracy.old, least: leastOfOld(gate) },
    { name: "New classes", before: null, after: accuracy.new, least: gate?.min_new || null },
    { name: "All", before: parent?.accuracy.all, after: accuracy.all, least: null },
  ].filter(({ after }) => after !== null && after !== undefined);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "verdict" },
    h("h2", { id: "verdict" }, "The gate on ", h("a", { href: link("versions", last.version) }, `v${last.version}`), " ", chip(said, kind)),
    last.new_labels.length ? h("p", null, `${counted(last.new_labels.length, "new class", "new classes")}: ${few(last.new_labels, 4)}`) : null,
    rows.length
      ? h(
          "table",
          { class: "compact" },
          h("thead", null, h("tr", null, h("th", null, "Accuracy"), h("th", { class: "number" }, parent ? `v${parent.version}` : "before"), h("th", { class: "number" }, `v${last.version}`), gate && h("th", { class: "number" }, "at least"))),
          h("tbody", null, rows.map(({ name, before, after, least }) => h("tr", { key: name }, h("th", { scope: "row" }, name), h("td", { class: "number muted" }, percent(before)), h("td", { class: "number" }, percent(after)), gate && h("td", { class: "number muted" }, percent(least))))),
        )
      : null,
    reason ? h("p", { class: "muted small" }, reason) : null,
  );
}

/**
 * Return what the old classes had to reach, as far as no chance explains less.
 * @param {import("../../core/types.js").Gate | null} gate
 */
function leastOfOld(gate) {
  return gate && gate.old_before !== null ? Math.max(0, gate.old_before - gate.max_old_drop) : null;
}

/** @param {Now} now */
export function pendingByLabel({ pending }) {
  if (!pending.length) return null;
  const most = Math.max(...pending.map(({ examples }) => examples));
  const sorted = [...pending].sort((a, b) => b.examples - a.examples);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "pending" },
    h("h2", { id: "pending" }, "Not learned yet"),
    h(
      "ul",
      { class: "bars" },
      sorted.slice(0, MOST).map(({ label, examples, state }) =>
        h(
          "li",
          { key: label },
          h("a", { class: "name", dir: "auto", title: label, href: link("classes", label) }, label),
          bar(examples / most, "warn"),
          h("span", { class: "figure" }, count(examples)),
          h("span", { class: "muted small" }, state === "learned" ? "more of it" : state === "provisional" ? "provisional" : "new"),
        ),
      ),
    ),
    sorted.length > MOST ? h("p", { class: "muted small" }, `and ${counted(sorted.length - MOST, "more label", "more labels")}`) : null,
  );
}
