/** Accuracy by version. */

import { shareChart } from "../../components/chart.js";
import { h } from "../../core/dom.js";
import { counted, percent } from "../../core/format.js";

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
