/** The page: who is there, which view, and what all views share. */

import { open } from "./components/dialog.js";
import { keycap } from "./components/parts.js";
import { loadAgain } from "./components/pictures.js";
import { shell } from "./components/shell.js";
import { signIn, signInAgain } from "./components/signin.js";
import { Api, sentence } from "./core/api.js";
import { h, render } from "./core/dom.js";
import { Keys } from "./core/keys.js";
import { Labels } from "./core/labels.js";
import { Live } from "./core/live.js";
import { Outbox } from "./core/outbox.js";
import { go, link, route } from "./core/router.js";
import { applyTheme, nextTheme } from "./core/theme.js";
import { VIEWS } from "./views.js";

const AGAIN_MS = 1500;

/** @typedef {import("./core/types.js").Session} Session */

applyTheme();
const page = /** @type {HTMLElement} */ (document.getElementById("page"));
const api = new Api();
const keys = new Keys();
void begin();

async function begin() {
  /** @type {Session} */
  let session;
  try {
    session = await api.get("session");
  } catch (error) {
    render(page, h("p", { class: "starting", role: "status" }, sentence(error)));
    setTimeout(begin, AGAIN_MS);
    return;
  }
  if (!session.signed_in) session = await signIn(page, api, session);
  run(session);
}

/** @param {Session} session */
function run(session) {
  const live = new Live(api);
  let asking = false;
  api.onSignedOut = async () => {
    if (asking) return;
    asking = true;
    let again = await signInAgain(api);
    while (!again) again = await signInAgain(api);
    asking = false;
    // Somebody else sees nothing of what the one before did here.
    if (again.principal !== session.principal || String(again.roles) !== String(session.roles)) return location.reload();
    live.open();
    loadAgain();
  };
  const labels = new Labels(api, live);
  const outbox = new Outbox(api, live, session.principal);
  let main = document.createElement("main");
  let [name, view] = /** @type {[string, import("./core/types.js").View | null]} */ (["", null]);

  const draw = () => render(page, shell({ session, live, outbox, view: name, main, help: () => void help(), leave }));

  const show = () => {
    if (!VIEWS.some((one) => one.name === route().view)) history.replaceState(null, "", link("now"));
    const { view: wanted, rest } = route();
    const found = VIEWS.find((one) => one.name === wanted);
    if (!found || found.name === name) return view?.moved?.(rest);
    view?.close();
    document.querySelector("dialog")?.close();
    name = found.name;
    // An element of its own: what a view that is closed still waits for is drawn where nobody sees it.
    main = document.createElement("main");
    main.id = "view";
    main.className = `view-${name}`;
    draw();
    view = found.mount(main, { api, live, keys, labels, outbox, session, rest });
    document.title = `${found.title} – Accrete`;
    main.querySelector("h1")?.focus();
  };

  const everywhere = keys.scope("Everywhere");
  for (const { name: target, title, letter } of VIEWS) everywhere.bind(`g ${letter}`, title, () => go(target));
  everywhere.bind("?", "All keys", () => void help());
  everywhere.bind("T", "Light, dark, or as the system has it", () => {
    nextTheme();
    draw();
  });
  addEventListener("hashchange", show);
  addEventListener("theme", draw);
  live.subscribe((kind) => {
    if (kind === "reach" && live.reachable && live.connected) loadAgain();
    draw();
  });
  outbox.subscribe(draw);
  live.open();
  void api.get("now").then((now) => live.take(now), draw);
  setInterval(draw, 5000);
  show();
}

async function leave() {
  await api.signOut();
  location.reload();
}

async function help() {
  await open("Keys", (close) => [
    h(
      "div",
      { class: "key-list" },
      keys.list().map(({ title, bindings }) =>
        h(
          "section",
          null,
          h("h3", null, title),
          h("dl", null, bindings.map(({ combination, listed, what }) => h("div", null, h("dt", null, (listed || combination).split(" ").map(keycap)), h("dd", null, what)))),
        ),
      ),
    ),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "button strong", autofocus: true, onclick: () => close(null) }, "Close")),
  ]);
}
