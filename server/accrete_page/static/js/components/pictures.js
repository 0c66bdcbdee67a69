/** Images of examples: one, and many of which some can be chosen. */

import { h } from "../core/dom.js";

/** @typedef {import("../core/dom.js").Child} Child */

/**
 * Return an image that says so where it cannot be shown: it may have been deleted meanwhile, or be no image at all.
 *
 * @param {string} src
 * @param {string} alt
 * @param {string} [kind] A class, such as "large".
 */
export function picture(src, alt, kind = "") {
  const set = (/** @type {string} */ state) => (/** @type {Event} */ event) => {
    const image = /** @type {HTMLImageElement} */ (event.target);
    image.parentElement?.setAttribute("data-state", state);
    // A few pixels, such as digits of 8 by 8, are enlarged as squares.
    if (state === "shown" && image.naturalWidth <= 64) image.classList.add("pixels");
  };
  return h(
    "span",
    { class: ["picture", kind], key: src, "data-state": "loading" },
    h("img", { src, alt, loading: kind === "large" ? "eager" : "lazy", decoding: "async", onload: set("shown"), onerror: set("gone") }),
    h("span", { class: "gone", "aria-hidden": "true" }, "No image"),
  );
}

/** Ask again for images that could not be shown: whoever sends them was away meanwhile. */
export function loadAgain() {
  for (const image of document.querySelectorAll(".picture[data-state=gone] img")) {
    const { src } = /** @type {HTMLImageElement} */ (image);
    /** @type {HTMLImageElement} */ (image).src = src;
  }
}

/** Which of many are chosen, by mouse or keys: one, a range, all. */
export class Selection {
  /** @type {Set<string>} */
  chosen = new Set();
  #anchor = "";
  focus = "";

  /**
   * @param {() => string[]} order The ids that are shown, in their order.
   * @param {() => void} changed
   */
  constructor(order, changed) {
    this.order = order;
    this.changed = changed;
  }

  /**
   * Choose by a click or by a key on one.
   *
   * @param {string} id
   * @param {{range?: boolean}} [how] `range`: all from the one before to this.
   */
  toggle(id, { range = false } = {}) {
    const ids = this.order();
    if (range && ids.includes(this.#anchor)) {
      const [a, b] = [ids.indexOf(this.#anchor), ids.indexOf(id)].sort((x, y) => x - y);
      for (const one of ids.slice(a, (b ?? 0) + 1)) this.chosen.add(one);
    } else {
      if (!this.chosen.delete(id)) this.chosen.add(id);
      this.#anchor = id;
    }
    this.focus = id;
    this.changed();
  }

  /** @param {string[]} ids */
  all(ids) {
    const every = ids.every((id) => this.chosen.has(id));
    for (const id of ids) {
      if (every) this.chosen.delete(id);
      else this.chosen.add(id);
    }
    this.changed();
  }

  clear() {
    this.chosen.clear();
    this.#anchor = "";
    this.changed();
  }

  /** Leave out what is shown no more. */
  prune() {
    const ids = new Set(this.order());
    for (const id of this.chosen) if (!ids.has(id)) this.chosen.delete(id);
  }

  /**
   * Move the focus among what is shown; with shift, choose on the way.
   *
   * @param {KeyboardEvent} event
   */
  move(event) {
    const list = /** @type {HTMLElement} */ (event.currentTarget);
    const ids = [...list.querySelectorAll("[role=option]")].map((option) => /** @type {HTMLElement} */ (option).dataset["id"] ?? "");
    const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -ids.length, End: ids.length }[event.key];
    if (event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      this.toggle(ids.includes(this.focus) ? this.focus : (ids[0] ?? ""), { range: event.shiftKey });
    }
    if (step === undefined || !ids.length) return;
    event.preventDefault();
    event.stopPropagation();
    const from = ids.indexOf(this.focus);
    if (event.shiftKey && from >= 0 && !this.chosen.has(this.#anchor)) this.#anchor = this.focus;
    this.focus = ids[Math.max(0, Math.min(ids.length - 1, from + step))] ?? "";
    if (event.shiftKey) this.toggle(this.focus, { range: true });
    this.changed();
    list.querySelector(`[data-id="${CSS.escape(this.focus)}"]`)?.scrollIntoView({ block: "nearest" });
  }
}

/**
 * @typedef {{id: string, src: string, alt: string, beneath?: Child}} Tile
 */

/**
 * Return images in rows, of which some can be chosen.
 *
 * @param {string} title
 * @param {Tile[]} tiles
 * @param {Selection} selection
 */
export function imageGrid(title, tiles, selection) {
  const focused = tiles.some(({ id }) => id === selection.focus) ? selection.focus : "";
  return h(
    "div",
    {
      class: "grid-of-images",
      role: "listbox",
      tabindex: "0",
      "aria-label": title,
      "aria-multiselectable": "true",
      "aria-activedescendant": focused ? optionId(focused) : undefined,
      onkeydown: (/** @type {KeyboardEvent} */ event) => selection.move(event),
    },
    tiles.map(({ id, src, alt, beneath }) =>
      h(
        "div",
        {
          key: id,
          id: optionId(id),
          role: "option",
          class: ["tile", id === focused && "focused"],
          "data-id": id,
          "aria-selected": String(selection.chosen.has(id)),
          onclick: (/** @type {MouseEvent} */ event) => selection.toggle(id, { range: event.shiftKey }),
        },
        picture(src, alt),
        beneath && h("span", { class: "beneath" }, beneath),
      ),
    ),
  );
}

/** @param {string} id */
function optionId(id) {
  return `option-${id.replace(/[^\w-]/g, "_")}`;
}
