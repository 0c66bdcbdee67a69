/** The token, pasted once. It goes to the page's process and is kept there alone; the browser gets a cookie that names it. */

import { h, render } from "../core/dom.js";
import { icon } from "./icons.js";
import { open } from "./dialog.js";
import { command, trouble } from "./parts.js";

/**
 * Ask for a token again, in front of all that stands, which stays as it is.
 *
 * @param {import("../core/api.js").Api} api
 * @returns {Promise<import("../core/types.js").Session | null>} None where nobody signed in.
 */
export function signInAgain(api) {
  const asked = new Asked(api);
  return open("Sign in again", (/** @type {(session: import("../core/types.js").Session | null) => void} */ close, redraw) =>
    h(
      "form",
      { onsubmit: asked.sent(close, redraw) },
      h("p", null, "Your session has ended: the page was started again, or the token is no longer taken. What you did here is kept, and goes on when you have signed in."),
      asked.fields(),
    ),
  );
}

/**
 * Ask for a token until one is taken.
 *
 * @param {HTMLElement} page
 * @param {import("../core/api.js").Api} api
 * @param {import("../core/types.js").Session} session
 * @returns {Promise<import("../core/types.js").Session>}
 */
export function signIn(page, api, session) {
  const asked = new Asked(api);
  return new Promise((resolve) => {
    const draw = () =>
      render(
        page,
        h(
          "main",
          { class: "sign-in" },
          h(
            "form",
            { onsubmit: asked.sent(resolve, draw) },
            h("h1", { class: "brand" }, icon("mark"), "Accrete"),
            h("p", null, `${session.node ? `The node ${session.node}` : "This node"} asks who you are. Paste a token; it stays with the page's own process until you sign out.`),
            asked.fields(),
            h("p", { class: "muted small" }, "An operator makes one on the node's machine: ", command("accrete token")),
          ),
        ),
      );
    draw();
    page.querySelector("input")?.focus();
  });
}

/** The field for a token, and what became of the last one that was sent. */
class Asked {
  /** @type {unknown} */
  #failed = null;
  #busy = false;

  /** @param {import("../core/api.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /**
   * Return what sends the form's token.
   *
   * @param {(session: import("../core/types.js").Session) => void} taken
   * @param {() => void} redraw
   */
  sent(taken, redraw) {
    return async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      this.#busy = true;
      redraw();
      const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("token"));
      try {
        await this.api.post("session", { token: field.value.trim() });
        field.value = "";
        taken(await this.api.get("session"));
      } catch (error) {
        this.#failed = error;
        this.#busy = false;
        redraw();
      }
    };
  }

  fields() {
    return [
      h("label", { class: "field" }, h("span", null, "Token"), h("input", { name: "token", type: "password", required: true, autofocus: true, autocomplete: "off", spellcheck: "false" })),
      trouble(this.#failed),
      h("div", { class: "buttons" }, h("button", { class: "button strong do", disabled: this.#busy }, this.#busy ? "Asking the server …" : "Sign in")),
    ];
  }
}
