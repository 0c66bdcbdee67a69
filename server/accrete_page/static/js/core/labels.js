/** The names of all classes, for completion; asked for when first needed, and again when a version has come. */

export class Labels {
  /** @type {string[]} */
  all = [];
  /** @type {Set<string>} Those that this tab has used and the server has not told of yet. */
  #own = new Set();
  /** @type {Promise<string[]> | null} */
  #loading = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./live.js").Live} live
   */
  constructor(api, live) {
    this.api = api;
    live.subscribe((kind) => {
      if (["committed", "activated", "provisional", "forgotten", "renamed"].includes(kind)) this.#loading = null;
    });
  }

  /** Return the names, in order of arrival, once they are all there. */
  load() {
    this.#loading ??= this.#asked();
    return this.#loading;
  }

  async #asked() {
    try {
      /** @type {import("./types.js").Class[]} */
      const classes = await this.api.get("classes");
      const told = classes.filter(({ state }) => state !== "forgotten").map(({ label }) => label);
      // What the server knows is gone from here as well once it is forgotten or has another name.
      for (const { label } of classes) this.#own.delete(label);
      this.all = [...new Set([...told, ...this.#own])];
      return this.all;
    } catch (error) {
      this.#loading = null;
      throw error;
    }
  }

  /**
   * Add names that this tab has just used.
   * @param {string[]} names
   */
  add(names) {
    for (const name of names) if (!this.all.includes(name)) this.#own.add(name);
    this.all = [...new Set([...this.all, ...names])];
  }

  /**
   * Return the names that fit what was typed, likeliest first: those that begin with it, those of which a word does,
   * those that contain it, and those that have its letters in order.
   *
   * @param {string} typed
   * @param {number} most
   */
  matching(typed, most) {
    const wanted = typed.trim().toLowerCase();
    return this.all
      .map((name) => ({ name, rank: rank(name.toLowerCase(), wanted) }))
      .filter(({ rank: found }) => found < 4)
      .sort((a, b) => a.rank - b.rank)
      .slice(0, most)
      .map(({ name }) => name);
  }
}

/**
 * @param {string} name
 * @param {string} wanted
 */
function rank(name, wanted) {
  if (name.startsWith(wanted)) return 0;
  const at = name.indexOf(wanted);
  if (at > 0) return /[\s_\-./]/.test(name[at - 1] ?? "") ? 1 : 2;
  let next = 0;
  for (const letter of name) if (letter === wanted[next]) next++;
  return next === wanted.length ? 3 : 4;
}
