/** All versions, two of them beside each other, and which one is live. */

import { longList } from "../../components/longlist.js";
import { button, empty, loading, trouble } from "../../components/parts.js";
import { h, render } from "../../core/dom.js";
import { ago, percent } from "../../core/format.js";
import { go, link } from "../../core/router.js";
import * as actions from "./actions.js";
import { changes, confusion, facts, stateChip } from "./compare.js";

/** @typedef {import("../../core/types.js").Version} Version */

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, context) {
  const { api, live, keys, session } = context;
  const operator = session.roles.includes("operate");
  const scroll = { top: 0, height: 600 };
  /** @type {{versions: Version[] | null, other: number, base: number, failed: unknown, told: unknown,
   *   comparison: import("../../core/types.js").Comparison | null, evaluation: import("../../core/types.js").Evaluation | null}} */
  const state = { versions: null, other: 0, base: 0, failed: null, told: null, comparison: null, evaluation: null };
  const find = (/** @type {number} */ number) => state.versions?.find(({ version }) => version === number);

  const load = async () => {
    try {
      state.versions = await api.get("versions");
      state.failed = null;
    } catch (error) {
      state.failed = error;
    }
    choose(context.rest);
  };
  const choose = (/** @type {string[]} */ [other, base]) => {
    const versions = state.versions ?? [];
    const one = find(Number(other)) ?? versions.find(({ active }) => active) ?? versions[0];
    const before = `${state.other} ${state.base}`;
    state.other = other && !find(Number(other)) ? Number(other) : (one?.version ?? 0);
    state.base = find(Number(base))?.version ?? one?.parent ?? 0;
    if (before === `${state.other} ${state.base}` && state.evaluation) draw();
    else void judge();
  };
  const judge = async () => {
    const { other, base } = state;
    Object.assign(state, { comparison: null, evaluation: null, told: null });
    draw();
    if (!find(other)) return;
    const same = () => state.other === other && state.base === base;
    const told = (/** @type {unknown} */ error) => {
      if (same()) state.told = error;
      return null;
    };
    const [evaluation, comparison] = await Promise.all([
      api.get("versions/evaluation", { version: other }).catch(told),
      find(base) && base !== other ? api.get("versions/compare", { base, other }).catch(told) : null,
    ]);
    if (!same()) return;
    Object.assign(state, { evaluation, comparison });
    draw();
  };
  const acting = async (/** @type {Promise<boolean>} */ work) => {
    if (await work) await load();
  };
  const act = (/** @type {"activate" | "discard"} */ what) => {
    const one = find(state.other);
    if (!one || !operator) return;
    void acting(what === "activate" ? actions.activate(context, state.versions ?? [], one) : actions.discard(context, one));
  };
  const unpin = () => operator && state.versions?.some(({ pinned }) => pinned) && void acting(actions.unpin(context, state.versions));
  const step = (/** @type {number} */ by) => {
    const versions = state.versions ?? [];
    const next = versions[Math.max(0, Math.min(versions.length - 1, versions.findIndex(({ version }) => version === state.other) + by))];
    if (next) go("versions", next.version);
  };

  const scope = keys.scope("Versions");
  scope.bind("j", "The version before", () => step(1));
  scope.bind("k", "The next version", () => step(-1));
  scope.bind("x", "The other way round", () => state.base && go("versions", state.base, state.other));
  if (operator) {
    scope.bind("a", "Activate it", () => act("activate"));
    scope.bind("u", "Unpin", () => unpin());
    scope.bind("D", "Discard it", () => act("discard"));
  }

  const content = () => {
    const heading = h("h1", { tabindex: "-1" }, "Versions");
    const { versions, failed, other } = state;
    if (!versions) return [heading, trouble(failed), failed ? null : loading("Asking for the versions")];
    if (!versions.length) return [heading, empty("There is no version yet", h("p", null, "Each step makes one. The first comes as soon as something is taught."), h("p", null, h("a", { class: "button strong do", href: link("try") }, "Teach the first thing")))];
    const list = longList({ title: "Versions", items: versions, id: ({ version }) => String(version), row, chosen: String(other), choose: ({ version }) => go("versions", version), scroll, scrolled: draw });
    return [
      h("div", { class: "head" }, heading, h("div", { class: "buttons" }, operator && versions.some(({ pinned }) => pinned) && button("Unpin", unpin, { key: "u" }))),
      trouble(failed),
      h("div", { class: ["two", context.rest.length > 0 && "chosen-one"] }, h("div", { class: "choose-class" }, list), h("article", { key: other }, detail(versions))),
    ];
  };
  const detail = (/** @type {Version[]} */ versions) => {
    const one = find(state.other);
    const base = find(state.base);
    if (!one) return empty(`v${state.other} is no longer kept`, h("p", null, "Its files were removed meanwhile, or it never was."), h("a", { href: link("versions") }, "All versions"));
    return [
      h(
        "div",
        { class: "head" },
        h("div", { class: "title" }, h("a", { class: "back button quiet", href: link("versions") }, "← All versions"), h("h2", { class: "class-name" }, `v${one.version}`), stateChip(one)),
        h("div", { class: "buttons" }, against(versions, one, state.base), operator && [button("Activate", () => act("activate"), { key: "a", disabled: one.state !== "ready" || (one.active && one.pinned) }), button("Discard", () => act("discard"), { key: "D", kind: "bad", disabled: one.state !== "ready" })]),
      ),
      facts(base, one),
      state.told ? h("p", { class: "muted", role: "status" }, state.told instanceof Error ? state.told.message : "") : null,
      base && state.comparison ? changes(state.comparison, base, one) : null,
      state.evaluation ? confusion(state.evaluation) : null,
      one.new_labels.length ? h("p", { class: "muted" }, `New in it: ${one.new_labels.slice(0, 40).join(", ")}${one.new_labels.length > 40 ? " …" : ""}`) : null,
    ];
  };
  function draw() {
    render(root, content());
  }
  const unsubscribe = live.subscribe((what) => ["activated", "committed", "rejected", "reach"].includes(what) && void load());
  draw();
  void load();
  return {
    close: () => {
      unsubscribe();
      scope.close();
    },
    moved: (rest) => {
      context.rest = rest;
      choose(rest);
    },
  };
}

/**
 * @param {Version[]} versions
 * @param {Version} one
 * @param {number} base
 */
function against(versions, one, base) {
  const others = versions.filter(({ version }) => version !== one.version);
  if (!others.length) return null;
  return h(
    "label",
    { class: "against" },
    h("span", { class: "muted" }, "beside"),
    h(
      "select",
      { "aria-label": "The version beside it", value: String(base), onchange: (/** @type {Event} */ event) => go("versions", one.version, /** @type {HTMLSelectElement} */ (event.target).value) },
      !base && h("option", { value: "0" }, "none"),
      others.map(({ version }) => h("option", { key: version, value: String(version) }, `v${version}`)),
    ),
  );
}

/** @param {Version} version */
function row(version) {
  return [h("span", { class: "number-of" }, `v${version.version}`), h("span", { class: "state-of" }, stateChip(version)), h("span", { class: "label muted small" }, ago(version.created_ms)), h("span", { class: "figure" }, percent(version.accuracy.all))];
}
