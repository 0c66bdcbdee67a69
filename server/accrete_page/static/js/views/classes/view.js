/** All classes, and what there is of each. */

import { Selection } from "../../components/pictures.js";
import { accuracyByClass, confusedPairs } from "../../components/judged.js";
import { command, empty, loading, trouble } from "../../components/parts.js";
import { h, render } from "../../core/dom.js";
import { go, link } from "../../core/router.js";
import * as actions from "./actions.js";
import { confusions, offenders, summary } from "./detail.js";
import { Examples, exampleSection } from "./examples.js";
import { chosenClasses, classList } from "./list.js";

/** @typedef {import("../../core/types.js").Class} Class */
/** @typedef {import("./examples.js").Kind} Kind */

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, context) {
  const { api, live, keys, session } = context;
  const operator = session.roles.includes("operate");
  const sees = operator || session.roles.includes("teach");
  const images = session.input_shape.length !== 1;
  const scroll = { top: 0, height: 600 };
  /** @type {{classes: Class[] | null, typed: string, order: import("./list.js").Order, chosen: string, failed: unknown,
   *   evaluation: import("../../core/types.js").Evaluation | null, examples: Examples | null}} */
  const state = { classes: null, typed: "", order: "arrival", chosen: context.rest[0] ?? "", failed: null, evaluation: null, examples: null };
  const selection = new Selection(() => state.examples?.list.map(({ id }) => id) ?? [], () => draw());
  const one = () => state.classes?.find(({ label }) => label === state.chosen);

  const load = async () => {
    try {
      state.classes = await api.get("classes");
      state.failed = null;
    } catch (error) {
      state.failed = error;
    }
    draw();
    const measured = sees && state.classes?.some(({ examples }) => examples);
    state.evaluation = measured ? await api.get("versions/evaluation").catch(() => null) : null;
    draw();
  };
  const kind = (/** @type {Kind} */ name) => {
    selection.chosen.clear();
    state.examples = sees && state.chosen ? new Examples(api, state.chosen, name, draw) : null;
    void state.examples?.more();
    draw();
  };
  const choose = (/** @type {string} */ label) => {
    state.chosen = label;
    kind("exemplars");
  };
  const acting = async (/** @type {Promise<string | boolean | null>} */ work) => {
    const done = await work;
    if (!done) return;
    await load();
    if (typeof done === "string") go("classes", done);
    else if (!one()) go("classes");
  };
  const act = (/** @type {(context: import("../../core/types.js").Context, one: Class) => Promise<string | boolean | null>} */ what) => {
    const found = one();
    if (found && operator) void acting(what(context, found));
  };
  const remove = async () => {
    const ids = [...selection.chosen];
    if (!ids.length || !operator) return;
    if (await actions.deleteExamples(context, ids, state.chosen)) {
      state.examples?.drop(new Set(ids));
      selection.clear();
      void load();
    }
  };
  const step = (/** @type {number} */ by) => {
    const found = chosenClasses(state.classes ?? [], state.typed, state.order);
    const next = found[Math.max(0, Math.min(found.length - 1, found.findIndex(({ label }) => label === state.chosen) + by))];
    if (next) go("classes", next.label);
  };

  const scope = keys.scope("Classes");
  scope.bind("/", "Find a class", () => /** @type {HTMLElement | null} */ (root.querySelector("#find-class"))?.focus());
  scope.bind("j", "The next class", () => step(1));
  scope.bind("k", "The class before", () => step(-1));
  if (operator) {
    scope.bind("r", "Rename it", () => act(actions.rename));
    scope.bind("m", "Merge it into another", () => act(actions.merge));
    scope.bind("F", "Forget it", () => act(actions.forget));
    scope.bind("d", "Delete the examples that are chosen", () => void remove());
  }

  const content = () => {
    const heading = h("h1", { tabindex: "-1" }, "Classes");
    const { classes, typed, order, chosen, failed } = state;
    if (!classes) return [heading, trouble(failed), failed ? null : loading("Asking for the classes")];
    if (!classes.length) return [heading, none()];
    const listed = classList(
      { all: classes, found: chosenClasses(classes, typed, order), typed, order, chosen, scroll },
      { type: (text) => ((state.typed = text), draw()), sort: (to) => ((state.order = to), draw()), choose: (label) => go("classes", label), scrolled: draw },
    );
    return [h("div", { class: "head" }, heading), trouble(failed), h("div", { class: ["two", chosen && "chosen-one"] }, listed, h("article", { class: "class", key: chosen }, detail()))];
  };
  const detail = () => {
    const found = one();
    if (!state.chosen) return overview(state.classes ?? [], state.evaluation);
    if (!found) return empty("There is no such class", h("p", null, `${state.chosen} is not known here: it may have been renamed, merged or forgotten meanwhile.`), h("a", { href: link("classes") }, "All classes"));
    return [
      summary(found, { rename: () => act(actions.rename), merge: () => act(actions.merge), forget: () => act(actions.forget) }, operator),
      confusions(found),
      images ? offenders(state.evaluation, found.label) : null,
      state.examples ? [trouble(state.examples.failed), exampleSection(state.examples, selection, { choose: kind, remove: () => void remove(), operator, images })] : h("p", { class: "muted" }, "Whoever may teach or operate sees the examples themselves."),
    ];
  };
  function draw() {
    render(root, content());
  }
  const unsubscribe = live.subscribe((what) => ["activated", "committed", "forgotten", "renamed", "provisional", "reach"].includes(what) && void load());
  draw();
  void load();
  if (state.chosen) choose(state.chosen);
  return {
    close: () => {
      unsubscribe();
      scope.close();
    },
    moved: (rest) => choose(rest[0] ?? ""),
  };
}

/**
 * @param {Class[]} classes
 * @param {import("../../core/types.js").Evaluation | null} evaluation
 */
function overview(classes, evaluation) {
  return [
    h("p", { class: "muted hint" }, "Choose a class: up and down in the list, or / and its first letters."),
    accuracyByClass(classes),
    evaluation && h("section", { class: "panel", "aria-labelledby": "pairs" }, h("h2", { id: "pairs" }, "Taken for another most often"), confusedPairs(evaluation)),
  ];
}

function none() {
  return empty(
    "There is no class yet",
    h("p", null, "A class begins with its first example."),
    h("p", null, h("a", { class: "button strong do", href: link("try") }, "Teach the first thing")),
    h("p", { class: "muted" }, "Or from a terminal, a folder for each: ", command("accrete add photos --wait")),
  );
}
