/** Small drawings of ours, 20 by 20, in the colour of the text. */

import { h } from "../core/dom.js";

/** @type {Record<string, string[]>} */
const PATHS = {
  now: ["M2 11h3l2-6 4 11 3-8 1.500 3h2.500"],
  inbox: ["M3 11l2.500-7h9l2.500 7v5h-14z", "M3 11h4l1 2h4l1-2h4"],
  classes: ["M3 3h6v6h-6z", "M11 3h6v6h-6z", "M3 11h6v6h-6z", "M11 11h6v6h-6z"],
  versions: ["M3 16v-4h4v-4h4v-4h6", "M14 1.500l3 2.500-3 2.500"],
  quarantine: ["M10 2l7 3v5c0 4-3 7-7 8-4-1-7-4-7-8v-5z", "M10 6v5", "M10 13.600v.2"],
  try: ["M3 6h3l1.500-2h5l1.500 2h3v10h-14z", "M10 8a3 3 0 1 1 0 6a3 3 0 1 1 0-6"],
  mark: ["M3 16a7 7 0 0 1 14 0", "M6.500 16a3.500 3.500 0 0 1 7 0", "M1.800 11.500a9.500 9.500 0 0 1 16.400 0"],
  theme: ["M10 3a7 7 0 1 0 0 14z", "M10 3a7 7 0 0 1 0 14"],
  close: ["M5 5l10 10", "M15 5l-10 10"],
};

/**
 * Return a drawing, which screen readers pass over: what it means is written beside it.
 * @param {string} name
 */
export function icon(name) {
  const paths = (PATHS[name] ?? []).map((d) => h("path", { d }));
  return h("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true", focusable: "false" }, paths);
}
