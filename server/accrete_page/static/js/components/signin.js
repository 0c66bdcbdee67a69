/** The token, pasted once. It goes to the page's process and is kept there alone; the browser gets a cookie that names it. */

import { h, render } from "../core/dom.js";
import { icon } from "./icons.js";
import { command, trouble } from "./parts.js";

/**
 * Ask for a token until one is taken.
 *
 * @param {HTMLElement} page
 * @param {import("../core/api.js").Api} api
 * @param {import("../core/types.js").Session} session
 * @returns {Promise<import("../core/types.js").Session>}
 */
export function signIn(page, api, session) {
  return new Promise((resolve) => {
    /** @type {unknown} */
    let failed = null;
    let busy = false;
    const submit = async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("token"));
      busy = true;
      draw();
      try {
        await api.post("session", { token: field.value.trim() });
        field.value = "";
        resolve(await api.get("session"));
      } catch (error) {
        failed = error;
        busy = false;
        draw();
      }
    };
    const draw = () =>
      render(
        page,
        h(
          "main",
          { class: "sign-in" },
          h(
            "form",
            { onsubmit: submit },
            h("h1", { class: "brand" }, icon("mark"), "Accrete"),
            h("p", null, `${session.node ? `The node ${session.node}` : "This node"} asks who you are. Paste a token; it stays with the page's own process until you sign out.`),
            h("label", { class: "field" }, h("span", null, "Token"), h("input", { name: "token", type: "password", required: true, autofocus: true, autocomplete: "off", spellcheck: "false" })),
            trouble(failed),
            h("button", { class: "button strong do", disabled: busy }, busy ? "Asking the server …" : "Sign in"),
            h("p", { class: "muted small" }, "An operator makes one on the node's machine: ", command("accrete token")),
          ),
        ),
      );
    draw();
    page.querySelector("input")?.focus();
  });
}
