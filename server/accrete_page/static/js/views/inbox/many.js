/** Many images at once: alike ones beside each other, a range chosen, one key for all. */

import { imageGrid } from "../../components/pictures.js";
import { button } from "../../components/parts.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { counted, named, percent } from "../../core/format.js";

/** @typedef {import("../../core/types.js").InboxItem} Item */

const SIDE = 192;
const MOST = 120;
const KEYS = 5;
const BY_TOUCH = matchMedia("(pointer: coarse)").matches;

/**
 * @param {Item[]} items
 * @param {import("../../components/pictures.js").Selection} selection
 * @param {{label: (label: string) => void, other: () => void, fresh: () => void, skip: () => void, all: (ids: string[]) => void}} act
 * @param {boolean} grouped
 */
export function many(items, selection, act, grouped) {
  const shown = items.slice(0, MOST);
  const groups = grouped ? [...Map.groupBy(shown, ({ group }) => group).values()] : [shown];
  return h(
    "div",
    { class: "inbox-many" },
    h("div", { class: "groups" }, groups.map((group, at) => section(group, at, selection, act.all))),
    h(
      "div",
      { class: "chosen", role: "group", "aria-label": "Label what is chosen" },
      h("span", { role: "status" }, selection.chosen.size ? counted(selection.chosen.size, "image") + " chosen" : BY_TOUCH ? "Tap images to choose them." : "Choose images: click, shift and click, arrows with shift, or a for all."),
      selection.chosen.size
        ? [
            likeliest(items.filter(({ id }) => selection.chosen.has(id))).map((label, at) => button(label, () => act.label(label), { key: String(at + 1) })),
            button("Another", act.other, { key: "/" }),
            button("New", act.fresh, { key: "n" }),
            button("Skip", act.skip, { key: "space" }),
          ]
        : null,
    ),
  );
}

/**
 * Return what the chosen images are by their answers together, likeliest first.
 * @param {Item[]} items
 */
export function likeliest(items) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { labels } of items) for (const { label, probability } of labels) sums.set(label, (sums.get(label) ?? 0) + probability);
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, KEYS).map(([label]) => label);
}

/**
 * @param {Item[]} group
 * @param {number} at
 * @param {import("../../components/pictures.js").Selection} selection
 * @param {(ids: string[]) => void} all
 */
function section(group, at, selection, all) {
  const [best] = likeliest(group);
  const title = `Group ${at + 1}, ${counted(group.length, "image")}${best ? `, likeliest ${named(best)}` : ""}`;
  return h(
    "section",
    { key: group[0]?.group },
    h("div", { class: "group-head" }, h("h2", null, title), button("Choose all", () => all(group.map(({ id }) => id)), { kind: "quiet" })),
    imageGrid(
      title,
      group.map((item) => ({
        id: item.id,
        src: address("inbox/image", { id: item.id, side: SIDE }),
        alt: item.labels[0] ? `likeliest ${item.labels[0].label}` : "no answer",
        beneath: item.unknown ? "unknown" : item.labels[0] ? `${named(item.labels[0].label)} ${percent(item.labels[0].probability, 0)}` : "",
      })),
      selection,
    ),
  );
}
