/** What can be done with a class; what it costs is said before. */

import { confirm } from "../../components/dialog.js";
import { pickLabel } from "../../components/picker.js";
import { h } from "../../core/dom.js";
import { counted, named } from "../../core/format.js";

/** @typedef {import("../../core/types.js").Class} Class */
/** @typedef {import("../../core/types.js").Context} Context */

/** @param {Class} one */
function all({ exemplars, holdout, pending }) {
  return exemplars + holdout + pending;
}

/**
 * Return the new name, or null where it was not renamed.
 *
 * @param {Context} context
 * @param {Class} one
 */
export async function rename({ api, labels }, one) {
  const name = await pickLabel(`Rename ${named(one.label)}`, labels, { onlyNew: true, start: one.label });
  if (!name || name === one.label) return null;
  if (labels.all.includes(name)) return (await mergeInto({ api }, one, name)) ? name : null;
  const done = await confirm({
    title: `Rename ${named(one.label)}`,
    cost: [h("p", null, `It is called ${named(name)} from then on, in answers too. Its ${counted(all(one), "example")} and all that is learned stay.`), h("p", { class: "muted" }, "Whoever goes on teaching the old name makes a new class of it.")],
    action: "Rename",
    run: () => api.post("classes/rename", { label: one.label, new_label: name }),
  });
  if (done) labels.add([name]);
  return done ? name : null;
}

/**
 * Return the class that it has become a part of, or null.
 *
 * @param {Context} context
 * @param {Class} one
 */
export async function merge({ api, labels }, one) {
  const into = await pickLabel(`Merge ${named(one.label)} into which class?`, labels, { onlyKnown: true, except: one.label });
  if (!into || into === one.label) return null;
  return (await mergeInto({ api }, one, into)) ? into : null;
}

/**
 * @param {{api: import("../../core/api.js").Api}} context
 * @param {Class} one
 * @param {string} into
 */
function mergeInto({ api }, one, into) {
  return confirm({
    title: `Merge ${named(one.label)} into ${named(into)}`,
    cost: [
      h("p", null, `There is no class ${named(one.label)} afterwards: its ${counted(all(one), "example")} are examples of ${named(into)}, and what would be answered as ${named(one.label)} is answered as ${named(into)}.`),
      h("p", { class: "muted" }, "Nothing takes them apart again."),
    ],
    typed: one.label,
    action: "Merge",
    kind: "bad",
    run: () => api.post("classes/merge", { label: one.label, into }),
  });
}

/**
 * @param {Context} context
 * @param {Class} one
 */
export function forget({ api }, one) {
  return confirm({
    title: `Forget ${named(one.label)}`,
    cost: [
      h("p", null, `Deleted for good: ${counted(one.exemplars, "exemplar")}, ${counted(one.holdout, "example")} of its hold-out, and ${counted(one.pending, "example")} not learned yet.`),
      h("p", null, "It is answered no more from now on, and is out of the weights with the next step. Taught again, it is a new class."),
    ],
    typed: one.label,
    action: "Forget it",
    kind: "bad",
    run: () => api.post("classes/forget", { label: one.label }),
  });
}

/**
 * @param {Context} context
 * @param {string[]} ids
 * @param {string} label
 */
export function deleteExamples({ api }, ids, label) {
  return confirm({
    title: `Delete ${counted(ids.length, "example")} of ${named(label)}`,
    cost: [h("p", null, "They are deleted for good, wherever they are kept. A closed-form head is solved again without them; a trained network keeps in its weights what it has made of them.")],
    action: "Delete",
    kind: "bad",
    run: () => api.post("examples/delete", { ids }),
  });
}
