/**
 * One registry of keys. A key has one meaning at a time: a second binding of it is an error at once, not a surprise
 * later. Keys are never taken from somebody who types into a field, nor from a button that has the focus.
 */

/** @typedef {{combination: string, what: string, run: (event: KeyboardEvent) => void, listed: string | null}} Binding */

const SEQUENCE_MS = 1500;
/** @type {Record<string, string>} */
const NAMES = { " ": "space", ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", Escape: "esc", Enter: "enter" };
/** What already has a meaning for a key while it has the focus. */
const OF_CONTROLS = new Map([["space", "button, summary"], ["enter", "button, summary, a[href]"]]);

/** Keys that belong together, such as those of a view, until closed. */
export class Scope {
  /** @type {Map<string, Binding>} */
  bindings = new Map();

  /**
   * @param {Keys} keys
   * @param {string} title
   */
  constructor(keys, title) {
    this.keys = keys;
    this.title = title;
  }

  /**
   * Give a key, or a sequence such as "g i", a meaning.
   *
   * @param {string} combination
   * @param {string} what For the list of keys.
   * @param {(event: KeyboardEvent) => void} run
   * @param {{listed?: string | null}} [options] How the list has it; null: it is not listed.
   */
  bind(combination, what, run, { listed = "" } = {}) {
    this.keys.refuseCollision(combination, this);
    this.bindings.set(combination, { combination, what, run, listed });
    return this;
  }

  /** Give all keys back. */
  close() {
    this.keys.remove(this);
  }
}

/** All scopes, and the one listener. */
export class Keys {
  /** @type {Scope[]} */
  #scopes = [];
  #pending = "";
  #pendingSince = 0;

  constructor() {
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  /**
   * Open a scope.
   * @param {string} title
   */
  scope(title) {
    const scope = new Scope(this, title);
    this.#scopes.push(scope);
    return scope;
  }

  /** @param {Scope} scope */
  remove(scope) {
    this.#scopes = this.#scopes.filter((one) => one !== scope);
  }

  /** Return what `?` shows: titles with their keys. */
  list() {
    return this.#scopes.map(({ title, bindings }) => ({
      title,
      bindings: [...bindings.values()].filter(({ listed }) => listed !== null),
    }));
  }

  /**
   * @param {string} combination
   * @param {Scope} by
   */
  refuseCollision(combination, by) {
    for (const scope of this.#scopes) {
      for (const taken of scope.bindings.keys()) {
        const same = taken === combination || taken.startsWith(`${combination} `) || combination.startsWith(`${taken} `);
        if (same) throw new Error(`the key ${combination} of "${by.title}" is taken by ${taken} of "${scope.title}"`);
      }
    }
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    const key = NAMES[event.key] ?? event.key;
    if (document.querySelector("dialog[open]") || isField(event.target)) return;
    const controls = OF_CONTROLS.get(key);
    if (controls && event.target instanceof HTMLElement && event.target.matches(controls)) return;
    const fresh = event.timeStamp - this.#pendingSince < SEQUENCE_MS ? this.#pending : "";
    const combination = fresh ? `${fresh} ${key}` : key;
    this.#pending = "";
    const binding = this.#find(combination) ?? this.#find(key);
    if (binding) {
      event.preventDefault();
      binding.run(event);
    } else if (this.#begins(key)) {
      this.#pending = key;
      this.#pendingSince = event.timeStamp;
    }
  }

  /** @param {string} combination */
  #find(combination) {
    return this.#scopes.map(({ bindings }) => bindings.get(combination)).find(Boolean);
  }

  /** @param {string} key */
  #begins(key) {
    return this.#scopes.some(({ bindings }) => [...bindings.keys()].some((one) => one.startsWith(`${key} `)));
  }
}

/** @param {EventTarget | null} target */
function isField(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));
}
