/** A confusion matrix as a picture: a row for each class, in order of arrival, and a column for what it was taken for. */

import { h } from "../core/dom.js";
import { counted } from "../core/format.js";
import { theme } from "../core/theme.js";

const LARGEST = 560;
const LEAST = 240;
const CELL_MOST = 24;

/**
 * Return the picture, with a line that tells what the pointer is on. The largest confusions stand in words beside it,
 * for whoever does not see it.
 *
 * @param {import("../core/types.js").Evaluation} evaluation
 * @param {(label: string) => void} choose Called with the label of a row that was chosen.
 */
export function heatmap(evaluation, choose) {
  const labels = evaluation.classes.map(({ label }) => label);
  const cell = Math.max(1, Math.min(CELL_MOST, Math.floor(LARGEST / Math.max(1, labels.length))));
  const cells = rates(evaluation, labels);
  const at = (/** @type {MouseEvent} */ event) => {
    const scale = (cell * labels.length) / /** @type {HTMLElement} */ (event.currentTarget).clientWidth;
    return { row: Math.floor((event.offsetY * scale) / cell), column: Math.floor((event.offsetX * scale) / cell) };
  };
  const canvas = h("canvas", {
    class: "heatmap",
    vars: { side: Math.max(cell * labels.length, Math.min(LEAST, 48 * labels.length)) },
    role: "img",
    "aria-label": `Confusion matrix of version ${evaluation.version}: ${counted(labels.length, "class", "classes")}, ${counted(evaluation.confusions.length, "kind")} of mistake`,
    ref: (/** @type {HTMLCanvasElement} */ element) => draw(element, labels.length, cell, cells),
    onmousemove: (/** @type {MouseEvent} */ event) => {
      const { row, column } = at(event);
      const told = /** @type {HTMLElement} */ (event.currentTarget).nextElementSibling;
      if (told) told.textContent = text(labels[row], labels[column], cells.get(row * labels.length + column)?.count);
    },
    onclick: (/** @type {MouseEvent} */ event) => {
      const label = labels[at(event).row];
      if (label !== undefined) choose(label);
    },
  });
  // Drawn anew by being made anew: for another version, and for another theme.
  const key = `${evaluation.version} ${theme()} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
  const begin = (/** @type {HTMLElement} */ told) => (told.textContent = "Rows are what it is, columns what it was taken for.");
  return h("div", { class: "heat", key }, canvas, h("p", { class: "muted small told", "aria-hidden": "true", ref: begin }));
}

/**
 * @param {import("../core/types.js").Evaluation} evaluation
 * @param {string[]} labels
 */
function rates({ classes, confusions }, labels) {
  const index = new Map(labels.map((label, at) => [label, at]));
  /** @type {Map<number, {count: number, share: number, wrong: boolean}>} */
  const cells = new Map();
  classes.forEach(({ correct, examples }, at) => {
    cells.set(at * labels.length + at, { count: correct, share: examples ? correct / examples : 0, wrong: false });
  });
  for (const { label, predicted, examples } of confusions) {
    const row = index.get(label);
    const column = index.get(predicted);
    if (row === undefined || column === undefined || row === column) continue;
    const all = classes[row]?.examples || 1;
    cells.set(row * labels.length + column, { count: examples, share: examples / all, wrong: true });
  }
  return cells;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} size
 * @param {number} cell
 * @param {Map<number, {share: number, wrong: boolean}>} cells
 */
function draw(canvas, size, cell, cells) {
  canvas.width = canvas.height = Math.max(1, size * cell);
  const context = canvas.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(document.documentElement);
  const gap = cell > 6 ? 1 : 0;
  for (const [at, { share, wrong }] of cells) {
    context.fillStyle = resolved(style.getPropertyValue(wrong ? "--ink-bad" : "--ink-good"));
    context.globalAlpha = share ? 0.15 + 0.85 * Math.min(1, wrong ? share * 2 : share) : 0;
    context.fillRect((at % size) * cell, Math.floor(at / size) * cell, cell - gap, cell - gap);
  }
}

/**
 * Return a colour as a canvas takes it, which knows nothing of light and dark.
 * @param {string} colour
 */
function resolved(colour) {
  const probe = document.createElement("span");
  probe.style.setProperty("color", colour);
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * @param {string | undefined} row
 * @param {string | undefined} column
 * @param {number | undefined} count
 */
function text(row, column, count) {
  if (row === undefined || column === undefined) return "";
  if (row === column) return `${row}: ${count ?? 0} right`;
  return count ? `${row} taken for ${column}: ${count}` : `${row} never taken for ${column}`;
}
