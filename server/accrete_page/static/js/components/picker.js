/** A label, by the first letters of one that there is, or a new one. */

import { h } from "../core/dom.js";
import { open } from "./dialog.js";
import { button, trouble } from "./parts.js";

const MOST = 8;

/**
 * Ask for a label.
 *
 * @param {string} title
 * @param {import("../core/labels.js").Labels} labels
 * @param {{onlyNew?: boolean, onlyKnown?: boolean, except?: string, start?: string}} [options] `except`: is not offered.
 * @returns {Promise<string | null>} None where nothing was chosen.
 */
export async function pickLabel(title, labels, { onlyNew = false, onlyKnown = false, except, start = "" } = {}) {
  let typed = start;
  let at = 0;
  /** @type {unknown} */
  let failed = null;
  // Who types faster than the labels arrive means one of them: the choice waits, or it would make a new label of its first letters.
  let loaded = false;
  let hurried = false;
  let redrawLater = () => {};
  let chooseLater = () => {};
  const load = () =>
    labels.load().then(
      () => {
        failed = null;
        loaded = true;
        redrawLater();
        if (hurried) chooseLater();
      },
      (error) => {
        failed = error;
        loaded = hurried; // who has asked twice in vain takes what was typed for what it is
        hurried = false;
        redrawLater();
      },
    );
  void load();
  return open(title, (/** @type {(label: string | null) => void} */ close, redraw) => {
    redrawLater = redraw;
    const found = onlyNew ? [] : labels.matching(typed, MOST + 1).filter((label) => label !== except).slice(0, MOST);
    const clean = typed.trim();
    const refused = refusal(clean);
    const fresh = loaded && !onlyKnown && clean && !refused && !labels.all.includes(clean);
    const options = [...found.map((label) => ({ label, fresh: false })), ...(fresh ? [{ label: clean, fresh: true }] : [])];
    at = Math.max(0, Math.min(at, options.length - 1));
    const same = onlyNew && labels.all.includes(clean);
    const choose = () => {
      const chosen = options[at];
      hurried = !loaded && !(failed && chosen);
      if (hurried) {
        if (failed) void load(); // what was away may be back, or a new session has begun
        failed = null;
        redraw();
      } else if (chosen) close(chosen.label);
      else if (same) close(clean);
    };
    chooseLater = choose;
    return h(
      "form",
      {
        class: "picker",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          choose();
        },
      },
      h("input", {
        value: typed,
        dir: "auto",
        autofocus: true,
        role: "combobox",
        "aria-label": title,
        "aria-expanded": "true",
        "aria-controls": "picker-options",
        "aria-autocomplete": "list",
        "aria-activedescendant": options.length ? `picker-${at}` : undefined,
        autocomplete: "off",
        spellcheck: "false",
        placeholder: onlyNew ? "Name of the new thing" : "First letters",
        oninput: (/** @type {InputEvent} */ event) => {
          typed = /** @type {HTMLInputElement} */ (event.target).value;
          at = 0;
          redraw();
        },
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (!step || !options.length) return;
          event.preventDefault();
          at = (at + step + options.length) % options.length;
          redraw();
        },
      }),
      h(
        "ul",
        { id: "picker-options", role: "listbox", "aria-label": "Labels" },
        options.map(({ label, fresh: isNew }, index) =>
          h(
            "li",
            { id: `picker-${index}`, role: "option", "aria-selected": String(index === at), onclick: () => close(label) },
            h("span", { class: "label", dir: "auto", title: label }, label),
            isNew && h("span", { class: "chip do" }, "new label"),
          ),
        ),
      ),
      hint(clean, options.length, refused, same, loaded),
      trouble(failed),
      h("div", { class: "buttons" }, button("Cancel", () => close(null)), h("button", { class: "button strong do", disabled: loaded && !options.length && !same }, "Choose")),
    );
  });
}

/**
 * @param {string} typed
 * @param {number} options
 * @param {string} refused
 * @param {boolean} same
 * @param {boolean} loaded
 */
function hint(typed, options, refused, same, loaded) {
  const text = refused || (loaded ? "" : "Looking for the labels.") || (same ? "There is such a label: it will be that one." : !options && typed ? "No label is like that." : "");
  return h("p", { class: "muted small hint", role: "status" }, text);
}

/**
 * Return why the server would refuse a label; empty where it would not.
 * @param {string} label
 */
export function refusal(label) {
  if (new TextEncoder().encode(label).length > 256) return "A label has at most 256 bytes.";
  return /[\u0000-\u001f\u007f-\u009f]/.test(label) ? "A label has no control characters." : "";
}
