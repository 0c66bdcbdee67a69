/** The first run of a newcomer: a name, three photographs, and it is known. */

import { button } from "../../components/parts.js";
import { h } from "../../core/dom.js";

const ENOUGH = 3;

/**
 * @param {object} shown
 * @param {string} shown.known What is known already; empty: nothing.
 * @param {string} shown.name
 * @param {{image: Blob, url: string}[]} shown.photographs
 * @param {import("./taught.js").Lesson[]} shown.lessons
 * @param {{rename: (name: string) => void, choose: () => void, camera: () => void, teach: () => void, skip: () => void}} act
 */
export function first({ known, name, photographs, lessons }, { rename, choose, camera, teach, skip }) {
  const busy = lessons.some(({ state }) => state === "waiting" || state === "sending" || state === "sent");
  const ready = name.trim() && photographs.length >= ENOUGH;
  const slots = Math.max(ENOUGH, photographs.length);
  return h(
    "section",
    { class: "first", "aria-labelledby": "first-title" },
    h("h2", { id: "first-title" }, known ? "Teach a second thing" : "Teach the first thing"),
    known ? h("p", { class: "notice good", role: "status" }, `${known} is known. As the only thing it would be the answer to every image: teach another one.`) : null,
    h("p", null, "Three photographs of one thing are enough: from different sides, as it will be seen later. More are better."),
    h(
      "label",
      { class: "field" },
      h("span", null, "1. What is it called?"),
      h("input", {
        name: "thing",
        value: name,
        dir: "auto",
        placeholder: "Such as: Kiwi",
        autocomplete: "off",
        oninput: (/** @type {InputEvent} */ event) => rename(/** @type {HTMLInputElement} */ (event.target).value),
      }),
    ),
    h("p", null, "2. Its photographs: drop them here, paste, or"),
    h("div", { class: "buttons" }, button("Choose files", choose, { key: "o" }), button("Use the camera", camera, { key: "c" })),
    h(
      "ol",
      { class: "slots", "aria-label": `${photographs.length} of ${ENOUGH} photographs` },
      Array.from({ length: slots }, (_, at) =>
        h("li", { key: at, class: photographs[at] ? "taken" : "" }, photographs[at] ? h("img", { src: photographs[at]?.url, alt: `Photograph ${at + 1}` }) : String(at + 1)),
      ),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "button strong do", disabled: !ready || busy, onclick: teach }, busy ? "Being learned …" : "3. Teach it"),
      known && button("Rather try an image", skip, { kind: "quiet" }),
    ),
  );
}
