/** What the model makes of an image, the nearest exemplars beside it, and what became of what was taught. */

import { picture } from "../../components/pictures.js";
import { button, chip } from "../../components/parts.js";
import { ranked } from "../../components/ranked.js";
import { address } from "../../core/api.js";
import { h } from "../../core/dom.js";

const SIDE = 192;

/** @typedef {import("../../core/types.js").Answer} Answer */

/**
 * @param {Answer} answer
 * @param {boolean} teacher
 * @param {{teach: (label: string) => void, other: () => void, fresh: () => void}} act
 */
export function answered(answer, teacher, act) {
  const { text, kind } = sureness(answer);
  return h(
    "section",
    { class: "answers", "aria-labelledby": "answer" },
    h("h2", { id: "answer" }, "The answer ", chip(text, kind), h("span", { class: "muted small" }, ` by v${answer.version}`)),
    ranked(answer.labels, teacher ? act.teach : null),
    teacher &&
      h(
        "div",
        { class: "teach" },
        h("p", { class: "muted" }, "Choose what it is, and it is taught: the next answer knows better."),
        h("div", { class: "buttons" }, button("Another label", act.other, { key: "/" }), button("A new one", act.fresh, { key: "n" })),
      ),
  );
}

/** @param {Answer} answer */
function sureness({ doubt, unknown }) {
  if (unknown || doubt === "unknown") return { text: "like nothing known", kind: "warn" };
  if (doubt === "provisional") return { text: "provisional", kind: "warn" };
  return doubt ? { text: "not sure", kind: "warn" } : { text: "sure", kind: "good" };
}

/** @param {import("../../core/types.js").Near[]} nearest */
export function neighbours(nearest) {
  if (!nearest.length) return null;
  const byLabel = [...Map.groupBy(nearest, ({ label }) => label)];
  return h(
    "section",
    { class: "nearest", "aria-labelledby": "nearest" },
    h("h2", { id: "nearest" }, "Most alike of the likeliest"),
    byLabel.map(([label, near]) =>
      h(
        "div",
        { class: "neighbours", key: label },
        h("h3", { dir: "auto" }, label),
        h("div", { class: "strip" }, near.map(({ id, kind }) => picture(address("examples/image", { label, kind, id, side: SIDE }), `An exemplar of ${label}`))),
      ),
    ),
  );
}

/** @param {import("./taught.js").Lesson[]} lessons */
export function lessonList(lessons) {
  if (!lessons.length) return null;
  return h(
    "section",
    { class: "lessons", "aria-label": "Taught from here" },
    h("h2", null, "Taught from here"),
    h(
      "ul",
      { "aria-live": "polite" },
      lessons.map(({ key, label, url, state, version, reason }) =>
        h("li", { key }, h("img", { src: url, alt: "" }), h("span", { class: "label", dir: "auto" }, label), chip(...told(state, version)), reason && h("span", { class: "muted small" }, reason)),
      ),
    ),
  );
}

/**
 * @param {string} state
 * @param {number} version
 * @returns {[string, string]}
 */
function told(state, version) {
  if (state === "learned") return [`learned in v${version}`, "good"];
  if (state === "refused") return ["refused", "bad"];
  if (state === "waiting") return ["kept, not sent", "warn"];
  return [state === "sending" ? "sending …" : "stored, being learned …", "warn"];
}
