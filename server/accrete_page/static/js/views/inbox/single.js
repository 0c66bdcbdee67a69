/** One image at a time, large, with the five likeliest labels. */

import { picture } from "../../components/pictures.js";
import { button } from "../../components/parts.js";
import { ranked } from "../../components/ranked.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { ago, named } from "../../core/format.js";

/** @typedef {import("../../core/types.js").InboxItem} Item */

const SIDE = 1024;
const AHEAD = 4;

/** @type {Map<string, HTMLImageElement>} */
const ahead = new Map();

/**
 * @param {Item} item
 * @param {{label: (label: string) => void, other: () => void, fresh: () => void, skip: () => void, undo: () => void}} act
 */
export function single(item, act) {
  return h(
    "div",
    { class: "inbox-one" },
    h(
      "figure",
      { class: "stage" },
      picture(source(item), `Image that was asked about ${ago(item.time_ms)}`, "large"),
      h("figcaption", { class: "muted small" }, h("span", null, why(item)), h("span", null, asked(item))),
    ),
    h(
      "section",
      { class: "answers", "aria-labelledby": "what" },
      h("h2", { id: "what" }, "What is it?"),
      ranked(item.labels, act.label),
      h(
        "div",
        { class: "buttons" },
        button("Another", act.other, { key: "/" }),
        button("New", act.fresh, { key: "n" }),
        button("Skip", act.skip, { key: "space" }),
        button("Undo", act.undo, { key: "z" }),
      ),
    ),
  );
}

/**
 * Load the next images, so that they are there at once.
 * @param {Item[]} items
 */
export function loadAhead(items) {
  for (const item of items.slice(1, AHEAD + 1)) {
    if (ahead.has(item.id)) continue;
    const image = new Image();
    image.src = source(item);
    ahead.set(item.id, image);
  }
  for (const id of [...ahead.keys()].slice(0, -2 * AHEAD)) ahead.delete(id);
}

/** @param {Item} item */
function source({ id }) {
  return address("inbox/image", { id, side: SIDE });
}

/** @param {Item} item */
export function why({ why: rule, labels, unknown }) {
  if (unknown || rule === "unknown") return "It is like nothing that is known.";
  if (rule === "provisional") return `${named(labels[0]?.label ?? "The likeliest")} is known from its first examples alone.`;
  return labels.length > 1 ? `${named(labels[0]?.label ?? "")} and ${named(labels[1]?.label ?? "")} are close.` : "The answer was not sure.";
}

/** @param {Item} item */
function asked({ time_ms: time, principal, version }) {
  return `Asked ${ago(time)}${principal ? ` by ${principal}` : ""}, answered by v${version}`;
}
