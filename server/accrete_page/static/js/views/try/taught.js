/** Images that were taught from here, each followed until it is learned. */

import { sentence } from "../../core/api.js";

/** @typedef {{key: number, label: string, url: string, state: "sending" | "sent" | "learned" | "refused", version: number, reason: string, id: string}} Lesson */

const LOOK_MS = 500;
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
   * Teach an image; what becomes of it is in the lesson.
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
    try {
      const { id } = await this.api.post("teach", image, { label });
      Object.assign(lesson, { state: "sent", id });
      this.#timer ??= setInterval(() => void this.#look(), LOOK_MS);
    } catch (error) {
      Object.assign(lesson, { state: "refused", reason: sentence(error) });
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
