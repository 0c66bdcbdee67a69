/** Images that callers asked about and the model was unsure of: label them, and they count at once. */

import { Selection } from "../../components/pictures.js";
import { choices, command, empty, loading, trouble } from "../../components/parts.js";
import { pickLabel } from "../../components/picker.js";
import { h, render } from "../../core/dom.js";
import { counted } from "../../core/format.js";
import { link } from "../../core/router.js";
import { Items } from "./items.js";
import { likeliest, many } from "./many.js";
import { recent } from "./recent.js";
import { loadAhead, single, why } from "./single.js";

const LOOK_MS = 4000;

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, { api, live, keys, labels, outbox, session }) {
  let grid = false;
  const draw = () => render(root, content());
  const items = new Items(api, outbox, draw);
  const selection = new Selection(() => items.open.map(({ id }) => id), draw);

  const chosen = () => (grid ? items.open.filter(({ id }) => selection.chosen.has(id)) : items.open.slice(0, 1));
  const label = (/** @type {string | null | undefined} */ name) => {
    const these = chosen();
    if (!name || !these.length) return;
    labels.add([name]);
    selection.chosen.clear();
    items.label(these, name);
  };
  const skip = () => {
    const these = chosen();
    selection.chosen.clear();
    if (these.length) void items.skip(these);
  };
  const ask = async (/** @type {boolean} */ onlyNew) => {
    const these = chosen();
    if (!these.length) return;
    const title = these.length > 1 ? `What are these ${these.length} images?` : "What is it?";
    label(await pickLabel(title, labels, { onlyNew }));
  };
  const takeBack = (/** @type {string} */ id) => {
    const item = items.dealt(id);
    if (item) void items.takeBack([item]);
    else void outbox.undo(id).then(() => items.more(), (error) => ((items.failed = error), draw()));
  };
  const nth = (/** @type {number} */ at) => (grid ? likeliest(chosen())[at] : items.open[0]?.labels[at]?.label);
  const toggle = (/** @type {boolean} */ to) => {
    grid = to;
    if (grid && items.order !== "look") void items.sort("look");
    else draw();
  };
  const act = { label, other: () => void ask(false), fresh: () => void ask(true), skip, undo: () => void items.undo(), all: (/** @type {string[]} */ ids) => selection.all(ids) };

  const scope = keys.scope("Inbox");
  for (const at of [0, 1, 2, 3, 4]) scope.bind(String(at + 1), "One of the five likeliest labels", () => label(nth(at)), { listed: at ? null : "1–5" });
  scope.bind("/", "Any label, by its first letters", act.other);
  scope.bind("n", "A new label", act.fresh);
  scope.bind("space", "Skip", skip);
  scope.bind("z", "Take back the last label or skip", act.undo);
  scope.bind("v", "One at a time, or many", () => toggle(!grid));
  scope.bind("a", "Choose all that are shown", () => grid && selection.all(items.open.map(({ id }) => id)));
  scope.bind("esc", "Choose none", () => selection.clear());

  const content = () => {
    const head = h("h1", { tabindex: "-1" }, "Inbox");
    const off = unavailable(session, live);
    if (off) return [head, off];
    selection.prune();
    loadAhead(items.open);
    return [
      h(
        "div",
        { class: "head" },
        h("div", { class: "title" }, head, h("span", { class: "muted", role: "status" }, items.loaded ? `${counted(items.left, "image")} open` : "")),
        h(
          "div",
          { class: "buttons" },
          choices("Order", [["doubt", "Doubtful"], ["newest", "Newest"], ["look", "By look"]], items.order, (order) => void items.sort(order)),
          choices("View", [["one", "One"], ["many", "Many"]], grid ? "many" : "one", (to) => toggle(to === "many")),
        ),
      ),
      trouble(items.failed, () => ((items.failed = null), draw())),
      refusals(outbox, takeBack),
      body(),
      recent(outbox.entries, takeBack),
    ];
  };
  const body = () => {
    const [first] = items.open;
    if (!first) return items.loaded ? done(live) : items.failed ? null : loading("Asking for images that need a label");
    if (grid) return many(items.open, selection, act, items.order === "look");
    const told = `${why(first)} Likeliest: ${first.labels[0]?.label ?? "nothing"}`;
    return [h("p", { class: "unseen", role: "status", key: "told" }, told), single(first, act)];
  };

  const unsubscribe = outbox.subscribe(draw);
  const look = setInterval(() => !items.open.length && items.loaded && void items.more(), LOOK_MS);
  const unlisten = live.subscribe((kind) => kind === "reach" && live.reachable && !items.open.length && void items.more());
  draw();
  if (!unavailable(session, live)) void items.more();
  return {
    close: () => {
      unsubscribe();
      unlisten();
      clearInterval(look);
      scope.close();
    },
  };
}

/**
 * @param {import("../../core/outbox.js").Outbox} outbox
 * @param {(id: string) => void} again
 */
function refusals(outbox, again) {
  const refused = outbox.entries.filter(({ state }) => state === "refused").slice(-3);
  return refused.map(({ id, label, reason }) =>
    h("p", { class: "notice bad", role: "alert", key: id }, h("span", null, `“${label}” was not taken: ${reason}`), h("button", { type: "button", class: "button", onclick: () => again(id) }, "Look again")),
  );
}

/**
 * @param {import("../../core/types.js").Session} session
 * @param {import("../../core/live.js").Live} live
 */
function unavailable({ roles, inbox_enabled: enabled, input_shape: shape }, live) {
  if (!roles.some((role) => role === "teach" || role === "operate")) {
    return empty("Images are for those who teach", h("p", null, `Your roles here are: ${roles.join(", ") || "none"}. Whoever may teach or operate sees the inbox; an operator gives such a token.`));
  }
  if (shape.length === 1) return empty("No inbox for embeddings", h("p", null, "This node is asked with vectors that an application computes. There is no image to show."));
  if (live.now?.status.inbox_enabled ?? enabled) return null;
  return empty(
    "The inbox is off",
    h("p", null, "Switched on, the server keeps images that it was asked about and was unsure of, so that you can say here what they are: it has learned it seconds later."),
    h("p", null, "Start the node with ", command("accrete up --set inbox.enabled=true")),
    h("p", { class: "muted" }, "How many are kept, for how long and of whom: the section [inbox] of the settings."),
  );
}

/** @param {import("../../core/live.js").Live} live */
function done(live) {
  const learned = Boolean(live.now?.status.version);
  return empty(
    "Nothing waits for a label",
    learned
      ? h("p", null, "When a caller asks about an image and the model is unsure, the image comes here by itself.")
      : h("p", null, "Nothing has been learned yet, so nothing is asked. ", h("a", { href: link("try") }, "Teach the first thing"), "."),
  );
}
