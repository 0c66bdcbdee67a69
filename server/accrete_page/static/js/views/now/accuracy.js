/** Accuracy by version and by class. */

import { shareChart } from "../../components/chart.js";
import { interval } from "../../components/parts.js";
import { h } from "../../core/dom.js";
import { counted, percent } from "../../core/format.js";
import { link } from "../../core/router.js";

const WORST = 10;

/** @param {import("../../core/types.js").Version[]} versions Newest first. */
export function accuracyByVersion(versions) {
  const points = [...versions].reverse().map(({ version, state, active, accuracy, reason }) => ({
    x: version,
    y: accuracy.all,
    kind: active ? "live" : state,
    text: `v${version}, ${active ? "live" : state}: ${percent(accuracy.all)}${reason ? ` (${reason})` : ""}`,
  }));
  const measured = points.filter(({ y }) => y !== null);
  const last = measured.at(-1);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "by-version" },
    h("h2", { id: "by-version" }, "Accuracy by version"),
    last
      ? shareChart(measured, `Accuracy of ${counted(measured.length, "version")}, ${percent(measured[0]?.y)} to ${percent(last.y)}; v${last.x} is the newest`)
      : h("p", { class: "muted" }, versions.length ? "No version has been measured: there are too few examples to measure by." : "The first version is shown here as soon as it is learned."),
    last && h("p", { class: "legend small muted" }, h("span", { class: "swatch good" }), "learned ", h("span", { class: "swatch do" }), "live ", h("span", { class: "swatch bad" }), "rejected"),
  );
}

/** @param {import("../../core/types.js").Class[]} classes */
export function accuracyByClass(classes) {
  const measured = classes.filter(({ examples, correct }) => examples && correct !== null);
  const share = (/** @type {import("../../core/types.js").Class} */ one) => (one.correct ?? 0) / (one.examples || 1);
  const worst = measured.sort((a, b) => share(a) - share(b) || (b.examples ?? 0) - (a.examples ?? 0)).slice(0, WORST);
  return h(
    "section",
    { class: "panel", "aria-labelledby": "by-class" },
    h("h2", { id: "by-class" }, measured.length > WORST ? `Accuracy by class, the ${WORST} worst` : "Accuracy by class"),
    worst.length
      ? h("ul", { class: "intervals" }, worst.map((one) => h("li", { key: one.label }, h("a", { class: "name", href: link("classes", one.label) }, one.label), interval(one))))
      : h("p", { class: "muted" }, "No class has been measured yet."),
    measured.length > WORST && h("p", { class: "small" }, h("a", { href: link("classes") }, `All ${counted(classes.length, "class", "classes")}`)),
  );
}
