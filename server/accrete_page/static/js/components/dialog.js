/** Questions that are asked in front of everything else. Escape says no. */

import { h, render } from "../core/dom.js";
import { button, trouble } from "./parts.js";

/** @typedef {import("../core/dom.js").Child} Child */

let opened = 0;

/**
 * Open a dialog. The element that had the focus has it again afterwards.
 *
 * @template Result
 * @param {string} title
 * @param {(close: (result: Result | null) => void, redraw: () => void) => Child} body Called anew to redraw.
 * @returns {Promise<Result | null>} What it was closed with; null for Escape.
 */
export function open(title, body) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const dialog = document.createElement("dialog");
    const id = `dialog-${++opened}`;
    dialog.setAttribute("aria-labelledby", id);
    /** @type {Result | null} */
    let result = null;
    const close = (/** @type {Result | null} */ value) => {
      result = value;
      dialog.close();
    };
    const draw = () => render(dialog, h("h2", { id }, title), body(close, draw));
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(result);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) close(null);
    });
    document.body.append(dialog);
    draw();
    dialog.showModal();
  });
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {Child} cost What will follow, said before it does.
 * @property {string} [typed] What has to be typed, where nothing brings it back.
 * @property {string} action What the button says.
 * @property {string} [kind] "bad" for what takes something away.
 * @property {() => Promise<unknown>} run Does it. What it raises is shown in the dialog, which stays.
 */

/**
 * Ask before something is done, and do it.
 *
 * @param {Question} question
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function confirm({ title, cost, typed, action, kind = "do", run }) {
  let value = "";
  let busy = false;
  /** @type {unknown} */
  let failed = null;
  const done = await open(title, (/** @type {(result: boolean | null) => void} */ close, redraw) => {
    const ready = !busy && (typed === undefined || value.trim() === typed);
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      if (!ready) return;
      busy = true;
      redraw();
      try {
        await run();
        close(true);
      } catch (error) {
        failed = error;
        busy = false;
        redraw();
      }
    };
    return h(
      "form",
      { onsubmit: submit },
      h("div", { class: "cost" }, cost),
      typed !== undefined &&
        h(
          "label",
          { class: "field" },
          h("span", null, "Type ", h("b", { class: "typed" }, typed), " to go on"),
          h("input", {
            value,
            autocomplete: "off",
            spellcheck: "false",
            autofocus: true,
            oninput: (/** @type {InputEvent} */ event) => {
              value = /** @type {HTMLInputElement} */ (event.target).value;
              redraw();
            },
          }),
        ),
      trouble(failed),
      h(
        "div",
        { class: "buttons" },
        button("Cancel", () => close(null)),
        h("button", { class: ["button", "strong", kind], disabled: !ready, autofocus: typed === undefined }, busy ? "Asking the server …" : action),
      ),
    );
  });
  return done === true;
}
