/** What the server is doing this second. */

import { accuracyByClass } from "../../components/judged.js";
import { button, command, empty, figure, loading, trouble } from "../../components/parts.js";
import { h, render } from "../../core/dom.js";
import { count, counted, duration, milliseconds, percent } from "../../core/format.js";
import { link } from "../../core/router.js";
import { accuracyByVersion } from "./accuracy.js";
import { learning, pendingByLabel, verdict } from "./step.js";
import { timeline } from "./timeline.js";

/** @typedef {import("../../core/types.js").Now} Now */

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, { api, live, keys, session }) {
  /** @type {import("../../core/types.js").Class[]} */
  let classes = [];
  /** @type {unknown} */
  let failed = null;
  let measured = -1;
  const operator = session.roles.includes("operate");

  const load = async () => {
    measured = live.now?.status.version ?? 0;
    try {
      classes = await api.get("classes");
    } catch (error) {
      failed = error;
    }
    draw();
  };
  const act = async (/** @type {string} */ route, body = {}) => {
    try {
      failed = null;
      await api.post(`learning/${route}`, body);
      live.take(await api.get("now"));
    } catch (error) {
      failed = error;
    }
    draw();
  };
  const toggle = () => act(live.now?.status.paused ? "resume" : "pause");
  const draw = () => render(root, content(live, { classes, failed, operator, act, toggle, dismiss: () => ((failed = null), draw()) }));

  const scope = keys.scope("Now");
  if (operator) {
    scope.bind("p", "Pause or resume learning", () => void toggle());
    scope.bind("s", "Start a step with what is pending", () => void act("trigger", { deep: false }));
  }
  const unsubscribe = live.subscribe((kind) => {
    draw();
    if (live.now && (live.now.status.version !== measured || kind === "activated")) void load();
  });
  const tick = setInterval(draw, 1000);
  draw();
  if (live.now) void load();
  return {
    close: () => {
      unsubscribe();
      clearInterval(tick);
      scope.close();
    },
  };
}

/**
 * @param {import("../../core/live.js").Live} live
 * @param {{classes: import("../../core/types.js").Class[], failed: unknown, operator: boolean,
 *   act: (route: string, body?: object) => void, toggle: () => void, dismiss: () => void}} shown
 */
function content(live, { classes, failed, operator, act, toggle, dismiss }) {
  const heading = h("h1", { tabindex: "-1" }, "Now");
  const { now } = live;
  if (!now) return [heading, loading("Asking the server what it does")];
  const { status } = now;
  const nothing = !status.version && !status.pending && !classes.length;
  const controls = operator && !nothing && [
    button(status.paused ? "Resume learning" : "Pause learning", toggle, { key: "p" }),
    button("Start a step", () => act("trigger", { deep: false }), { key: "s", disabled: !status.pending || status.paused }),
  ];
  return [
    h("div", { class: "head" }, heading, h("div", { class: "buttons" }, controls)),
    trouble(failed, dismiss),
    status.warnings.map((text) => h("p", { class: "notice warn", key: text }, text)),
    nothing ? first(status) : figures(now),
    !nothing && h("div", { class: "panels" }, learning(live, now), verdict(now), pendingByLabel(now)),
    !nothing && h("div", { class: "panels halves" }, accuracyByVersion(now.versions ?? []), accuracyByClass(classes, h("p", { class: "small" }, h("a", { href: link("classes") }, `All ${counted(classes.length, "class", "classes")}`)))),
    timeline(now.versions ?? [], live.events),
    node(now),
  ];
}

/** @param {Now} now */
function figures({ status, classes, traffic, versions }) {
  const accuracy = versions?.find(({ version }) => version === status.version)?.accuracy;
  const behind = status.active_version !== status.version ? `v${status.active_version} is being loaded` : status.pinned ? "pinned" : "";
  return h(
    "dl",
    { class: "figures" },
    figure("Live version", status.version ? `v${status.version}` : "none", behind),
    figure("Classes", count(status.classes), classes.provisional ? `and ${counted(classes.provisional, "provisional one")}` : ""),
    figure("Accuracy", percent(accuracy?.all), accuracy?.examples ? `of ${counted(accuracy.examples, "example")}` : ""),
    figure("Calls a second", traffic?.calls_per_s === null || !traffic ? "–" : traffic.calls_per_s.toFixed(1)),
    figure("Answered within", milliseconds(traffic?.p50_ms), traffic?.p99_ms ? `p99 ${milliseconds(traffic.p99_ms)}` : ""),
    figure("Not learned yet", count(status.pending), status.pending ? `oldest ${duration(status.oldest_pending_ms / 1000)}` : ""),
  );
}

/** @param {Now["status"]} status */
function first(status) {
  return empty(
    "Nothing has been learned yet",
    h("p", null, "This server knows no class. Give it three photographs of a thing, and it is known within seconds."),
    h("p", null, h("a", { class: "button strong do", href: link("try") }, "Teach the first thing")),
    h("p", { class: "muted" }, "Or from a terminal, a folder for each thing: ", command("accrete add photos --wait")),
    !status.learner_alive && h("p", { class: "notice warn" }, "No learner runs: what is taught waits until one does. ", command("accrete learn"), " starts one."),
  );
}

/** @param {Now} now */
function node({ status }) {
  const facts = [
    ["Method", status.method],
    ["Engine", status.engine],
    ["Store", status.store_alive ? status.store : "does not answer"],
    ["Exemplars", status.exemplar_budget ? `${count(status.exemplars)} of ${count(status.exemplar_budget)}` : count(status.exemplars)],
    ["Hold-out", count(status.holdout)],
    ["Release", status.release],
    ["Data", status.data_dir],
  ];
  return h("section", { class: "node-facts", "aria-label": "This node" }, h("dl", null, facts.filter(([, value]) => value).map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value)))));
}
