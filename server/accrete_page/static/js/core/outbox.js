/**
 * Labels that were given and are on their way. They are kept in memory and for the tab's session, sent in order, and
 * sent again only where nobody answered: the server knows each by its item and stores it once.
 */

import { ApiError, sentence } from "./api.js";

/**
 * @typedef {"waiting" | "sending" | "sent" | "learned" | "refused" | "undone"} State
 * @typedef {{id: string, label: string, state: State, example: string, version: number, reason: string}} Entry
 */

const KEY = "accrete.outbox";
const AT_ONCE = 64;
const AGAIN_MS = 1000;
const KEPT = 60;
const CHECK_MS = 2500;

export class Outbox {
  /** @type {Entry[]} Newest last. */
  entries = [];
  #key;
  #busy = false;
  #checking = false;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./live.js").Live} live
   * @param {string} principal Whose labels they are: nobody sends those of somebody else.
   */
  constructor(api, live, principal) {
    this.api = api;
    this.#key = `${KEY}.${principal}`;
    this.entries = stored(this.#key);
    for (const entry of this.entries) if (entry.state === "sending") entry.state = "waiting";
    live.subscribe((kind) => {
      if (kind === "activated" || kind === "committed") void this.#check();
      if (kind === "reach" && live.reachable && live.connected) void this.#send();
    });
    setInterval(() => void this.#check(), CHECK_MS);
    void this.#send();
  }

  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How many have not reached the server. */
  get unsent() {
    return this.entries.filter(({ state }) => state === "waiting" || state === "sending").length;
  }

  /**
   * Say what items are.
   *
   * @param {string[]} ids
   * @param {string} label
   */
  label(ids, label) {
    const taken = new Set(ids);
    this.entries = this.entries.filter(({ id }) => !taken.has(id));
    for (const id of ids) this.entries.push({ id, label, state: "waiting", example: "", version: 0, reason: "" });
    this.#changed();
    void this.#send();
  }

  /**
   * Take a label back: from here where it was not sent, from the server where it was. Raises what the server says.
   * @param {string} id
   */
  async undo(id) {
    const entry = this.entries.find((one) => one.id === id);
    while (entry?.state === "sending") await new Promise((done) => setTimeout(done, 50));
    if (entry && entry.state !== "waiting" && entry.state !== "refused") await this.reopen([id]);
    this.entries = this.entries.filter((one) => one.id !== id);
    this.#changed();
  }

  /**
   * Let items wait again, on the server.
   * @param {string[]} ids
   */
  async reopen(ids) {
    const { unknown } = await this.api.post("inbox/reopen", { ids });
    if (unknown?.length) throw new Error("the image is no longer kept");
  }

  async #send() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (;;) {
        const batch = this.entries.filter(({ state }) => state === "waiting").slice(0, AT_ONCE);
        if (!batch.length) return;
        if (!(await this.#sendBatch(batch))) await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    } finally {
      this.#busy = false;
    }
  }

  /** @param {Entry[]} batch */
  async #sendBatch(batch) {
    for (const entry of batch) entry.state = "sending";
    this.#changed();
    try {
      const { results } = await this.api.post("inbox/label", { items: batch.map(({ id, label }) => ({ id, label })) });
      for (const result of results) settle(batch, result);
      return batch.every(({ state }) => state !== "sending");
    } catch (error) {
      const away = error instanceof ApiError && (error.away || error.status === 429 || error.status === 401);
      for (const entry of batch) Object.assign(entry, away ? { state: "waiting" } : { state: "refused", reason: sentence(error) });
      return !away;
    } finally {
      for (const entry of batch) if (entry.state === "sending") entry.state = "waiting";
      this.#changed();
    }
  }

  /** Ask of those that were sent whether they are learned. */
  async #check() {
    const sent = this.entries.filter(({ state, example }) => state === "sent" && example).slice(-AT_ONCE);
    if (!sent.length || this.#checking) return;
    this.#checking = true;
    try {
      const ids = sent.map(({ example }) => example);
      const { version, waiting } = await this.api.get("learned", { id: ids });
      const learned = sent.filter(({ example }) => !waiting.includes(example));
      for (const entry of learned) Object.assign(entry, { state: "learned", version });
      if (learned.length) this.#changed();
    } catch (error) {
      // What somebody has deleted meanwhile is asked for no more.
      if (error instanceof ApiError && error.code === "NOT_FOUND") for (const entry of sent) entry.example = "";
    } finally {
      this.#checking = false;
    }
  }

  #changed() {
    const unsent = this.entries.filter(({ state }) => state === "waiting" || state === "sending");
    this.entries = [...this.entries.filter((one) => !unsent.includes(one)).slice(-KEPT), ...unsent];
    sessionStorage.setItem(this.#key, JSON.stringify(this.entries));
    for (const listener of this.#listeners) listener();
  }
}

/**
 * @param {Entry[]} batch
 * @param {import("./types.js").Labelled} result
 */
function settle(batch, { id, outcome, reason, example_id: example }) {
  const entry = batch.find((one) => one.id === id);
  if (!entry) return;
  if (outcome.toLowerCase() === "refused") Object.assign(entry, { state: "refused", reason });
  else Object.assign(entry, { state: "sent", example });
}

/**
 * @param {string} key
 * @returns {Entry[]}
 */
function stored(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "[]");
  } catch {
    return [];
  }
}
