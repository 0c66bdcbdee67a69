/** The last ten labels, each going from sent to learned. */

import { picture } from "../../components/pictures.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";

/** @typedef {import("../../core/outbox.js").Entry} Entry */

const LAST = 10;
const SIDE = 96;

/**
 * @param {Entry[]} entries Newest last.
 * @param {(id: string) => void} takeBack
 */
export function recent(entries, takeBack) {
  const shown = entries.slice(-LAST).reverse();
  return h(
    "section",
    { class: ["recent", !shown.length && "bare"], "aria-label": "The last labels" },
    shown.length
      ? h("ol", null, shown.map((entry) => one(entry, takeBack)))
      : h("p", { class: "muted small" }, "Here the last ten labels go from sent to learned. z takes one back."),
  );
}

/**
 * @param {Entry} entry
 * @param {(id: string) => void} takeBack
 */
function one(entry, takeBack) {
  const { text, kind } = told(entry);
  return h(
    "li",
    { key: entry.id },
    h(
      "button",
      { type: "button", class: ["given", kind], onclick: () => takeBack(entry.id), title: entry.reason || "Take it back" },
      picture(address("inbox/image", { id: entry.id, side: SIDE }), "", "thumb"),
      h("span", { class: "label", dir: "auto" }, entry.label),
      h("span", { class: "small state" }, text),
    ),
  );
}

/** @param {Entry} entry */
function told({ state, version, reason }) {
  if (state === "learned") return { text: `learned in v${version}`, kind: "good" };
  if (state === "refused") return { text: `refused: ${reason}`, kind: "bad" };
  if (state === "sent") return { text: "sent", kind: "warn" };
  return { text: state === "sending" ? "sending …" : "kept, not sent", kind: "warn" };
}
