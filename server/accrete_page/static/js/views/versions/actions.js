/** What can be done with a version: the consequence is shown, and the number is typed. */

import { confirm } from "../../components/dialog.js";
import { h } from "../../core/dom.js";
import { counted, few } from "../../core/format.js";

/** @typedef {import("../../core/types.js").Version} Version */
/** @typedef {import("../../core/types.js").Context} Context */

/**
 * Return the labels that came after a version on the way to another.
 *
 * @param {Version[]} versions
 * @param {Version} from
 * @param {Version | undefined} to
 */
function since(versions, from, to) {
  /** @type {string[]} */
  const labels = [];
  let at = to;
  while (at && at.version > from.version) {
    labels.push(...at.new_labels);
    const { parent } = at;
    at = versions.find(({ version }) => version === parent);
  }
  return labels;
}

/**
 * @param {Context} context
 * @param {Version[]} versions
 * @param {Version} one
 */
export function activate({ api }, versions, one) {
  const live = versions.find(({ active }) => active);
  const lost = since(versions, one, live);
  return confirm({
    title: `Activate v${one.version}`,
    cost: [
      h("p", null, `v${one.version} answers from then on, on all servers, in place of ${live ? `v${live.version}` : "none"}. No call fails for it.`),
      lost.length ? h("p", { class: "notice warn" }, `It does not know ${few(lost, 5)}: images of ${lost.length === 1 ? "it" : "these"} are answered as something else.`) : null,
      h("p", null, "It is pinned: steps go on, and their versions do not go live until it is unpinned."),
    ],
    typed: String(one.version),
    action: "Activate",
    run: () => api.post("versions/activate", { version: one.version }),
  });
}

/**
 * @param {Context} context
 * @param {Version[]} versions
 */
export function unpin({ api }, versions) {
  const newest = versions.find(({ state }) => state === "ready");
  return confirm({
    title: "Unpin",
    cost: h("p", null, `The newest version that is ready goes live, which is ${newest ? `v${newest.version}` : "none"}, and later ones do as they come.`),
    typed: newest ? String(newest.version) : undefined,
    action: "Unpin",
    run: () => api.post("versions/unpin"),
  });
}

/**
 * @param {Context} context
 * @param {Version} one
 */
export function discard({ api }, one) {
  return confirm({
    title: `Discard v${one.version}`,
    cost: [
      h("p", null, `For a version whose files are damaged for good; the server refuses it of one whose files are whole. v${one.version} can never be activated again.`),
      one.new_labels.length ? h("p", null, `What it alone knows is learned again from its exemplars: ${few(one.new_labels, 5)}.`) : h("p", null, `Steps go on from the ready version before it. ${counted(one.classes, "class", "classes")} that only it knows are learned again.`),
    ],
    typed: String(one.version),
    action: "Discard it",
    kind: "bad",
    run: () => api.post("versions/discard", { version: one.version }),
  });
}
