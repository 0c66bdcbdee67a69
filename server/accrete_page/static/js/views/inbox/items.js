/** The images that wait for a label, and what was done with those that no longer do. */

import { sentence } from "../../core/api.js";

/** @typedef {import("../../core/types.js").InboxItem} Item */
/** @typedef {"doubt" | "newest" | "look"} Order */

const FEW = 16;

export class Items {
  /** @type {Item[]} Those that wait, the next one first. */
  open = [];
  /** @type {Order} */
  order = "doubt";
  total = 0;
  loading = false;
  loaded = false;
  /** @type {unknown} */
  failed = null;
  /** @type {Item[][]} What was labelled or skipped together, newest last. */
  #done = [];
  /** @type {Map<string, Item>} All that this tab has dealt with: the server may not have heard of it yet. */
  #dealt = new Map();
  #next = "";
  #generation = 0;

  /**
   * @param {import("../../core/api.js").Api} api
   * @param {import("../../core/outbox.js").Outbox} outbox
   * @param {() => void} changed
   */
  constructor(api, outbox, changed) {
    this.api = api;
    this.outbox = outbox;
    this.changed = changed;
  }

  get left() {
    return Math.max(this.open.length, this.total);
  }

  /** @param {Order} order */
  sort(order) {
    this.order = order;
    this.open = [];
    this.#next = "";
    this.loaded = false;
    this.#generation++;
    this.loading = false;
    return this.more();
  }

  /** Ask for more where few are left. */
  async more() {
    if (this.loading || (this.loaded && !this.#next && this.open.length)) return;
    const generation = this.#generation;
    this.loading = true;
    this.changed();
    try {
      /** @type {import("../../core/types.js").Inbox} */
      const page = await this.api.get("inbox", { order: this.order, state: "open", page: this.#next || undefined });
      if (generation !== this.#generation) return;
      const known = new Set(this.open.map(({ id }) => id));
      const sent = new Set(this.outbox.entries.filter(({ state }) => state !== "refused").map(({ id }) => id));
      this.open.push(...page.items.filter(({ id }) => !known.has(id) && !sent.has(id) && !this.#dealt.has(id)));
      this.#next = page.next_page_token;
      this.total = page.open;
      this.loaded = true;
      this.failed = null;
    } catch (error) {
      if (generation === this.#generation) this.failed = error;
    }
    if (generation !== this.#generation) return;
    this.loading = false;
    this.changed();
  }

  /**
   * Say what items are, and go on at once.
   *
   * @param {Item[]} items
   * @param {string} label
   */
  label(items, label) {
    this.#leave(items);
    this.outbox.label(items.map(({ id }) => id), label);
    this.failed = null;
    this.#refill();
  }

  /** @param {Item[]} items */
  async skip(items) {
    this.#leave(items);
    this.failed = null;
    this.#refill();
    try {
      await this.api.post("inbox/skip", { ids: items.map(({ id }) => id) });
    } catch (error) {
      this.#return(items);
      this.failed = new Error(`Not skipped: ${sentence(error)}`);
      this.changed();
    }
  }

  /** Undo the last thing that was done here; return whether there was one. */
  async undo() {
    const items = this.#done.pop();
    if (items) await this.takeBack(items);
    return Boolean(items);
  }

  /**
   * Let items wait again, whatever became of them.
   * @param {Item[]} items
   */
  async takeBack(items) {
    this.#return(items);
    this.changed();
    for (const { id } of items) {
      try {
        if (this.outbox.entries.some((entry) => entry.id === id)) await this.outbox.undo(id);
        else await this.outbox.reopen([id]);
      } catch (error) {
        this.failed = new Error(`Not taken back: ${sentence(error)}`);
      }
    }
    this.changed();
  }

  /** @param {string} id */
  dealt(id) {
    return this.#dealt.get(id);
  }

  /** @param {Item[]} items */
  #leave(items) {
    const gone = new Set(items.map(({ id }) => id));
    for (const item of items) this.#dealt.set(item.id, item);
    this.open = this.open.filter(({ id }) => !gone.has(id));
    this.total = Math.max(0, this.total - items.length);
    this.#done.push(items);
  }

  /** @param {Item[]} items */
  #return(items) {
    const back = new Set(items.map(({ id }) => id));
    for (const id of back) this.#dealt.delete(id);
    this.#done = this.#done.map((one) => one.filter(({ id }) => !back.has(id))).filter((one) => one.length);
    this.open = [...items, ...this.open.filter(({ id }) => !back.has(id))];
    this.total += items.length;
  }

  #refill() {
    this.changed();
    if (this.open.length < FEW) void this.more();
  }
}
