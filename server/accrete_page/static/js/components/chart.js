/** Charts of one line, drawn from data. What they show is told in words as well. */

import { h } from "../core/dom.js";
import { percent } from "../core/format.js";

const WIDTH = 520;
const HEIGHT = 192;
const EDGE = { left: 48, right: 12, top: 12, bottom: 24 };

/**
 * @typedef {{x: number, y: number | null, text: string, kind: string}} Point `kind`: a class of its mark.
 */

/**
 * Return a chart of shares by number, such as accuracy by version.
 *
 * @param {Point[]} points In the order of x.
 * @param {string} summary What it shows, in words.
 */
export function shareChart(points, summary) {
  const measured = points.flatMap(({ y }) => (y === null ? [] : [y]));
  const low = Math.max(0, Math.floor((Math.min(...measured, 0.9) - 0.02) * 10) / 10);
  const place = scale(points, low, 1);
  const line = points.filter(({ y, kind }) => y !== null && kind !== "rejected");
  const marks = points.map((point) =>
    h(
      "circle",
      { key: point.x, cx: place.x(point.x), cy: place.y(point.y ?? low), r: point.kind === "live" ? 5 : 3.5, class: ["mark", point.kind] },
      h("title", null, point.text),
    ),
  );
  return drawing(
    summary,
    [low, (low + 1) / 2, 1].map((share) => grid(place.y(share), percent(share, 0))),
    h("polyline", { class: "line", points: line.map(({ x, y }) => `${place.x(x)},${place.y(y ?? low)}`).join(" ") }),
    marks,
    ends(points, place),
  );
}

/**
 * Return a falling line, such as a loss by epoch.
 *
 * @param {number[]} values
 * @param {string} summary
 */
export function sparkline(values, summary) {
  const high = Math.max(...values);
  const low = Math.min(...values);
  const x = (/** @type {number} */ at) => (at / Math.max(1, values.length - 1)) * 200;
  const y = (/** @type {number} */ value) => 44 - ((value - low) / (high - low || 1)) * 40;
  return h(
    "svg",
    { class: "spark", viewBox: "0 0 200 48", role: "img", "aria-label": summary, preserveAspectRatio: "none" },
    h("polyline", { class: "line", points: values.map((value, at) => `${x(at)},${y(value)}`).join(" ") }),
  );
}

/**
 * @param {Point[]} points
 * @param {number} low
 * @param {number} high
 */
function scale(points, low, high) {
  const first = points[0]?.x ?? 0;
  const span = (points.at(-1)?.x ?? 0) - first || 1;
  return {
    x: (/** @type {number} */ x) => round(EDGE.left + ((x - first) / span) * (WIDTH - EDGE.left - EDGE.right)),
    y: (/** @type {number} */ y) => round(EDGE.top + ((high - y) / (high - low || 1)) * (HEIGHT - EDGE.top - EDGE.bottom)),
  };
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * @param {number} y
 * @param {string} text
 */
function grid(y, text) {
  return h(
    "g",
    { key: text, class: "grid" },
    h("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }),
    h("text", { x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, text),
  );
}

/**
 * @param {Point[]} points
 * @param {{x: (x: number) => number}} place
 */
function ends(points, place) {
  const shown = points.length > 1 ? [points[0], points.at(-1)] : points.slice(0, 1);
  return shown.map((point, at) =>
    point ? h("text", { class: "label", x: place.x(point.x), y: HEIGHT - 4, "text-anchor": at ? "end" : "start" }, `v${point.x}`) : null,
  );
}

/**
 * @param {string} summary
 * @param {...import("../core/dom.js").Child} children
 */
function drawing(summary, ...children) {
  return h("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary }, children);
}
