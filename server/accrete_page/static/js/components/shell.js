/** What stands around every view: where one is, what else there is, and whether the server answers. */

import { h } from "../core/dom.js";
import { clock, count, counted } from "../core/format.js";
import { link } from "../core/router.js";
import { nextTheme, theme } from "../core/theme.js";
import { VIEWS } from "../views.js";
import { icon } from "./icons.js";
import { button } from "./parts.js";

const MOST_BADGE = 999;

/**
 * @param {{session: import("../core/types.js").Session, live: import("../core/live.js").Live,
 *   outbox: import("../core/outbox.js").Outbox, view: string, main: HTMLElement, help: () => void, leave: () => void}} shown
 */
export function shell({ session, live, outbox, view, main, help, leave }) {
  return [
    h("a", { class: "skip", href: "#view", onclick: skip }, "To the content"),
    h(
      "header",
      { class: "top" },
      h("a", { class: "brand", href: link("now"), "aria-label": "Accrete" }, icon("mark"), h("span", null, "Accrete")),
      h("span", { class: "node", title: session.data_dir }, session.node || session.data_dir.split("/").at(-1)),
      state(live),
      h("span", { class: "gap" }),
      session.principal && h("span", { class: "muted small who", title: session.roles.join(", ") }, session.principal),
      session.needs_token && button("Sign out", leave, { kind: "quiet" }),
      button(themeName(), changeTheme, { kind: "quiet theme", icon: "theme", title: "Light, dark, or as the system has it" }),
      button("Keys", help, { kind: "quiet keys", key: "?" }),
    ),
    h("nav", { class: "views", "aria-label": "Views" }, VIEWS.map((one) => entry(one, view, live, outbox))),
    h("div", { class: "standing", role: "status", key: "standing" }, standing(live, outbox, session.release)),
    main,
  ];
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.querySelector("h1")?.focus();
}

function changeTheme() {
  nextTheme();
  dispatchEvent(new Event("theme"));
}

function themeName() {
  return { auto: "Auto", light: "Light", dark: "Dark" }[theme()] ?? "Auto";
}

/** @param {import("../core/live.js").Live} live */
function state({ now, reachable, connected }) {
  if (!reachable || !connected) return h("span", { class: "chip bad state" }, "no answer");
  if (!now) return h("span", { class: "chip state" }, "asking …");
  const { version, phase } = now.status;
  const busy = !["waiting", "paused", "blocked"].includes(phase);
  return h(
    "a",
    { class: ["chip", "state", busy ? "do" : phase === "blocked" ? "bad" : version ? "good" : ""], href: link("now") },
    version ? `v${version}` : "nothing learned",
    busy || phase !== "waiting" ? ` · ${phase}` : "",
  );
}

/**
 * @param {typeof VIEWS[number]} entry
 * @param {string} view
 * @param {import("../core/live.js").Live} live
 * @param {import("../core/outbox.js").Outbox} outbox
 */
function entry({ name, title, letter }, view, live, outbox) {
  const status = live.now?.status;
  const number = { inbox: (status?.inbox_open ?? 0) || outbox.unsent, quarantine: (status?.held_labels.length ?? 0) + (status?.in_review ?? 0) }[name];
  return h(
    "a",
    { key: name, href: link(name), "aria-current": name === view ? "page" : undefined },
    icon(name),
    h("span", { class: "name" }, title),
    number ? h("span", { class: "badge", title: count(number) }, number > MOST_BADGE ? `${MOST_BADGE}+` : count(number)) : null,
    h("span", { class: "goes", "aria-hidden": "true" }, h("kbd", null, "g"), h("kbd", null, letter)),
  );
}

/**
 * @param {import("../core/live.js").Live} live
 * @param {import("../core/outbox.js").Outbox} outbox
 * @param {string} release Of the server when the page was opened.
 */
function standing(live, outbox, release) {
  if (live.reachable && live.connected) {
    const now = live.now?.status.release ?? release;
    if (now === release) return null;
    return h("p", { class: "notice do" }, h("span", null, `The server has another release now, ${now}. Load the page again for what is new in it.`), button("Load again", () => location.reload()));
  }
  const who = live.connected ? "The server does not answer" : "The page's own process does not answer";
  const kept = outbox.unsent ? ` ${counted(outbox.unsent, "label is", "labels are")} kept here and will be sent once.` : " What you type is kept.";
  return h("p", { class: "notice warn" }, `${who} since ${clock(live.goneSince)}.${kept} It goes on by itself when there is an answer.`);
}
