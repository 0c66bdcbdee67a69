/** What is kept of a class, a page of images at a time. */

import { imageGrid } from "../../components/pictures.js";
import { button, choices, loading } from "../../components/parts.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { count, counted } from "../../core/format.js";

/** @typedef {"exemplars" | "holdout" | "pending" | "review"} Kind */

const SIDE = 192;
/** @type {Record<Kind, string>} */
const NAMES = { exemplars: "Exemplars", holdout: "Hold-out", pending: "Not learned yet", review: "In review" };

/** The examples of one class and kind, as far as they were asked for. */
export class Examples {
  /** @type {import("../../core/types.js").Example[]} */
  list = [];
  total = 0;
  /** @type {unknown} */
  failed = null;
  loading = false;
  loaded = false;
  #next = "";

  /**
   * @param {import("../../core/api.js").Api} api
   * @param {string} label
   * @param {Kind} kind
   * @param {() => void} changed
   */
  constructor(api, label, kind, changed) {
    this.api = api;
    this.label = label;
    this.kind = kind;
    this.changed = changed;
  }

  get hasMore() {
    return Boolean(this.#next);
  }

  async more() {
    if (this.loading) return;
    this.loading = true;
    this.changed();
    try {
      /** @type {import("../../core/types.js").Examples} */
      const page = await this.api.get("examples", { label: this.label, kind: this.kind, page: this.#next || undefined });
      const known = new Set(this.list.map(({ id }) => id));
      this.list = [...this.list, ...page.examples.filter(({ id }) => !known.has(id))];
      this.#next = page.next_page_token;
      this.total = page.total;
      this.loaded = true;
      this.failed = null;
    } catch (error) {
      this.failed = error;
    }
    this.loading = false;
    this.changed();
  }

  /** @param {Set<string>} ids */
  drop(ids) {
    this.total -= this.list.filter(({ id }) => ids.has(id)).length;
    this.list = this.list.filter(({ id }) => !ids.has(id));
    this.changed();
  }
}

/**
 * @param {Examples} examples
 * @param {import("../../components/pictures.js").Selection} selection
 * @param {{choose: (kind: Kind) => void, remove: () => void, operator: boolean, images: boolean}} act
 */
export function exampleSection(examples, selection, { choose, remove, operator, images }) {
  const { list, kind, label, total, loaded } = examples;
  return h(
    "section",
    { class: "kept", "aria-labelledby": "kept" },
    h(
      "div",
      { class: "head" },
      h("h2", { id: "kept" }, loaded ? `What is kept: ${counted(total, "example")}` : "What is kept"),
      choices("Kind", /** @type {[Kind, string][]} */ (Object.entries(NAMES)), kind, choose),
    ),
    !loaded && examples.loading ? loading("Asking for examples") : null,
    loaded && !list.length ? h("p", { class: "muted" }, none(kind)) : null,
    images && list.length ? imageGrid(`${NAMES[kind]} of ${label}`, list.map((example) => tile(example, label)), selection) : null,
    !images && list.length ? h("ul", { class: "ids" }, list.map(({ id }) => h("li", { key: id }, h("code", null, id)))) : null,
    h(
      "div",
      { class: "buttons" },
      examples.hasMore && button(examples.loading ? "Asking …" : `More, ${count(list.length)} of ${count(total)} are here`, () => void examples.more()),
      operator && list.length > 0 && images && button(selection.chosen.size ? `Delete ${counted(selection.chosen.size, "example")}` : "Delete what is chosen", remove, { kind: "bad", key: "d", disabled: !selection.chosen.size }),
    ),
  );
}

/**
 * @param {import("../../core/types.js").Example} example
 * @param {string} label
 */
function tile({ id, kind, rank, synthesised, principal, reasons }, label) {
  const words = [rank ? `${rank}` : "", synthesised ? "made" : "", reasons?.join(", ") ?? "", principal];
  return {
    id,
    src: address("examples/image", { label, kind, id, side: SIDE }),
    alt: rank ? `Exemplar ${rank}` : "Example",
    beneath: words.filter(Boolean).join(" · "),
  };
}

/** @param {Kind} kind */
function none(kind) {
  return {
    exemplars: "It has no exemplars: nothing of it is learned yet, or the method keeps none.",
    holdout: "No example of it was set aside to measure by.",
    pending: "All of it is learned.",
    review: "None of it waits for review.",
  }[kind];
}
