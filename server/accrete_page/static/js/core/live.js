/** What the server tells by itself: one stream of events for each tab, and the state that follows from it. */

import { ApiError, address } from "./api.js";

/** @typedef {import("./types.js").Now} Now */
/** @typedef {import("./types.js").Happened} Happened */

const KINDS = ["phase", "progress", "committed", "activated", "rejected", "failed", "forgotten", "renamed", "provisional", "reviewed", "discarded"];
const MOST_EVENTS = 200;
const MOST_LOSSES = 400;
const AGAIN_MS = 1500;

/** An observable state; whoever subscribes is called when any of it has changed. */
export class Live {
  /** @type {Now | null} */
  now = null;
  /** @type {Happened[]} Newest first, progress left out. */
  events = [];
  /** @type {Map<string, {done: number, total: number}>} Stages of the step that runs, or ran last, in their order. */
  stages = new Map();
  /** @type {number[]} Of the step that runs, or ran last. */
  losses = [];
  stepVersion = 0;
  /** Whether the model server answers the page's process. */
  reachable = true;
  /** Whether the page's process answers this tab. */
  connected = true;
  goneSince = 0;

  /** @type {Set<(kind: string) => void>} */
  #listeners = new Set();
  /** @type {EventSource | null} */
  #source = null;
  /** @type {import("./api.js").Api} */
  #api;

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.#api = api;
  }

  /**
   * Call `listener` with the kind of what has changed, until the function that is returned is called.
   * @param {(kind: string) => void} listener
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Listen, and go on listening whatever happens. */
  open() {
    this.close();
    // A stream that is opened anew goes on behind what this tab has heard, as a browser does with one that broke off.
    const source = new EventSource(address("events", { after: this.events[0]?.id }));
    this.#source = source;
    source.onopen = () => this.#reached({ connected: true });
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) this.#reached({ connected: false });
      // A stream that was refused, rather than broken off, is not opened again by the browser.
      if (source.readyState === EventSource.CLOSED) void this.#refused(source);
    };
    source.addEventListener("now", (event) => this.take(JSON.parse(event.data)));
    source.addEventListener("server", (event) => this.#reached({ reachable: JSON.parse(event.data).reachable }));
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this.#happened(kind, event.lastEventId, JSON.parse(event.data)));
    }
  }

  /**
   * Find out whether the session has ended, or who could not be reached: the page's process, or the server behind it.
   * Try again later.
   *
   * @param {EventSource} source
   */
  async #refused(source) {
    try {
      const { signed_in: known } = await this.#api.get("session");
      if (!known) return this.#api.onSignedOut();
    } catch (error) {
      const behind = error instanceof ApiError && error.status > 0;
      this.#reached(behind ? { connected: true, reachable: false } : { connected: false });
    }
    setTimeout(() => this.#source === source && this.open(), AGAIN_MS);
  }

  /** Stop listening. */
  close() {
    this.#source?.close();
    this.#source = null;
  }

  /**
   * Take in a state that was asked for or sent.
   * @param {Now} now
   */
  take(now) {
    this.now = now;
    this.#progressed(now.status.progress);
    this.#tell("now");
  }

  /**
   * @param {string} kind
   * @param {string} id
   * @param {any} data
   */
  #happened(kind, id, data) {
    if (kind === "progress") this.#progressed(data);
    else if (!this.events.some((one) => one.id === id)) {
      this.events = [{ ...data, id, kind, time_ms: data.time_ms || Date.now() }, ...this.events].slice(0, MOST_EVENTS);
    }
    this.#tell(kind);
  }

  /** @param {import("./types.js").Progress | null} progress */
  #progressed(progress) {
    if (!progress) return;
    if (progress.version !== this.stepVersion) {
      this.stepVersion = progress.version;
      this.stages.clear();
      this.losses = [];
    }
    const before = this.stages.get(progress.stage)?.done;
    this.stages.set(progress.stage, { done: progress.done, total: progress.total });
    if (typeof progress.loss === "number" && before !== progress.done) {
      this.losses = [...this.losses, progress.loss].slice(-MOST_LOSSES);
    }
  }

  /** @param {{reachable?: boolean, connected?: boolean}} change */
  #reached(change) {
    const was = this.reachable && this.connected;
    Object.assign(this, change);
    const is = this.reachable && this.connected;
    if (was && !is) this.goneSince = Date.now();
    if (was !== is) this.#tell("reach");
  }

  /** @param {string} kind */
  #tell(kind) {
    for (const listener of this.#listeners) listener(kind);
  }
}
