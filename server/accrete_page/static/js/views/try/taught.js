/** Images that were taught from here, each followed until it is learned. */

import { ApiError, sentence } from "../../core/api.js";

/** @typedef {{key: number, label: string, url: string, state: "waiting" | "sending" | "sent" | "learned" | "refused", version: number, reason: string, id: string}} Lesson */

const LOOK_MS = 500;
const AGAIN_MS = 1500;
const KEPT = 12;

export class Taught {
  /** @type {Lesson[]} Newest first. */
  lessons = [];
  #next = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * @param {import("../../core/api.js").Api} api
   * @param {() => void} changed
   * @param {(lesson: Lesson) => void} learned
   */
  constructor(api, changed, learned) {
    this.api = api;
    this.changed = changed;
    this.learned = learned;
  }

  /**
   * Teach an image; what becomes of it is in the lesson. Where nobody answers it is sent again: the server knows an image
   * that it has under its label, and stores it once.
   *
   * @param {Blob} image
   * @param {string} url Of the image, to show it.
   * @param {string} label
   */
  async teach(image, url, label) {
    /** @type {Lesson} */
    const lesson = { key: this.#next++, label, url, state: "sending", version: 0, reason: "", id: "" };
    this.lessons = [lesson, ...this.lessons].slice(0, KEPT);
    this.changed();
    while (lesson.state === "sending" || lesson.state === "waiting") {
      try {
        const { id } = await this.api.post("teach", image, { label });
        Object.assign(lesson, { state: "sent", id, reason: "" });
        this.#timer ??= setInterval(() => void this.#look(), LOOK_MS);
      } catch (error) {
        const away = error instanceof ApiError && (error.away || error.status === 429 || error.status === 401);
        Object.assign(lesson, { state: away ? "waiting" : "refused", reason: sentence(error) });
        this.changed();
        if (away) await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    }
    this.changed();
    return lesson;
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #look() {
    const sent = this.lessons.filter(({ state }) => state === "sent");
    if (!sent.length) return this.stop();
    try {
      const { version, waiting } = await this.api.get("learned", { id: sent.map(({ id }) => id) });
      const now = sent.filter((lesson) => lesson.state === "sent" && !waiting.includes(lesson.id));
      for (const lesson of now) Object.assign(lesson, { state: "learned", version });
      if (now.length) this.changed();
      for (const lesson of now) this.learned(lesson);
    } catch {
      // The next look asks again.
    }
  }
}
