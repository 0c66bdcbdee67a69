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
  /** @type {unknown} */
  let failed = null;
  let busy = false;
  return open("Sign in again", (/** @type {(session: import("../core/types.js").Session | null) => void} */ close, redraw) => {
    const submit = async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      busy = true;
      redraw();
      try {
        close(await begun(api, /** @type {HTMLFormElement} */ (event.target)));
      } catch (error) {
        failed = error;
        busy = false;
        redraw();
      }
    };
    return h(
      "form",
      { onsubmit: submit },
      h("p", null, "Your session has ended: the page was started again, or the token is no longer taken. What you did here is kept, and goes on when you have signed in."),
      fields(failed, busy),
    );
  });
}

/**
 * @param {import("../core/api.js").Api} api
 * @param {HTMLFormElement} form
 * @returns {Promise<import("../core/types.js").Session>}
 */
async function begun(api, form) {
  const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("token"));
  await api.post("session", { token: field.value.trim() });
  field.value = "";
  return api.get("session");
}

/**
 * @param {unknown} failed
 * @param {boolean} busy
 */
function fields(failed, busy) {
  return [
    h("label", { class: "field" }, h("span", null, "Token"), h("input", { name: "token", type: "password", required: true, autofocus: true, autocomplete: "off", spellcheck: "false" })),
    trouble(failed),
    h("div", { class: "buttons" }, h("button", { class: "button strong do", disabled: busy }, busy ? "Asking the server …" : "Sign in")),
  ];
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
  return new Promise((resolve) => {
    /** @type {unknown} */
    let failed = null;
    let busy = false;
    const submit = async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      busy = true;
      draw();
      try {
        resolve(await begun(api, /** @type {HTMLFormElement} */ (event.target)));
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
            fields(failed, busy),
            h("p", { class: "muted small" }, "An operator makes one on the node's machine: ", command("accrete token")),
          ),
        ),
      );
    draw();
    page.querySelector("input")?.focus();
  });
}
