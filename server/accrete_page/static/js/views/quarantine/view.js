/** What is held, why, with its images, and what becomes of it. */

import { confirm } from "../../components/dialog.js";
import { picture } from "../../components/pictures.js";
import { button, chip, empty, loading, trouble } from "../../components/parts.js";
import { address, sentence } from "../../core/api.js";
import { h, render } from "../../core/dom.js";
import { counted } from "../../core/format.js";

/** @typedef {import("../../core/types.js").Held} Held */
/** @typedef {import("../../core/types.js").Review} Review */
/** @typedef {{key: string, held?: Held, review?: Review}} Case */

const IMAGES = 10;
const SIDE = 192;
/** @type {Record<string, string>} */
const REASONS = {
  contradiction: "The live model is sure that these are something else.",
  duplicates: "Nearly the same image was taught many times.",
  burst: "Many came from one caller within a minute.",
  share: "More of the class would come from one caller than may.",
};

/**
 * @param {HTMLElement} root
 * @param {import("../../core/types.js").Context} context
 * @returns {import("../../core/types.js").View}
 */
export function mount(root, { api, live, keys, session }) {
  const operator = session.roles.includes("operate");
  const sees = operator || session.roles.includes("teach");
  /** @type {Case[] | null} */
  let cases = null;
  /** @type {Map<string, number>} How many of a label there were when it was looked at. */
  const looked = new Map();
  /** @type {Map<string, string[]>} Ids of pending examples by label. */
  const pending = new Map();
  /** @type {Map<string, string>} What went wrong with which case. */
  const wrong = new Map();
  /** @type {unknown} */
  let failed = null;
  let at = 0;

  const load = async () => {
    try {
      /** @type {import("../../core/types.js").Quarantine} */
      const { held, review } = await api.get("quarantine");
      cases = [...held.map((one) => ({ key: `held ${one.label}`, held: one })), ...review.map((one) => ({ key: `review ${one.label} ${one.principal} ${one.reason}`, review: one }))];
      failed = null;
    } catch (error) {
      failed = error;
    }
    at = Math.max(0, Math.min(at, (cases?.length ?? 1) - 1));
    draw();
    for (const { held } of cases ?? []) if (held && sees && looked.get(held.label) !== held.pending) void look(held);
  };
  const look = async (/** @type {Held} */ { label, pending: number }) => {
    looked.set(label, number);
    try {
      /** @type {import("../../core/types.js").Examples} */
      const { examples } = await api.get("examples", { label, kind: "pending", size: IMAGES });
      pending.set(label, examples.slice(0, IMAGES).map(({ id }) => id));
    } catch {
      looked.delete(label);
    }
    draw();
  };
  const act = async (/** @type {Case} */ one, /** @type {string} */ route, /** @type {object} */ body) => {
    wrong.delete(one.key);
    try {
      await api.post(`quarantine/${route}`, body);
      await load();
    } catch (error) {
      wrong.set(one.key, sentence(error));
      draw();
    }
  };
  const approve = (/** @type {Case | undefined} */ one) => one?.held?.awaiting_approval && void act(one, "approve", { label: one.held.label });
  const retry = (/** @type {Case | undefined} */ one) => {
    if (one?.held && !one.held.awaiting_approval) void act(one, "retry", { label: one.held.label });
    if (one?.review) void act(one, "review/release", selection(one.review));
  };
  const drop = async (/** @type {Case | undefined} */ one) => {
    if (!one) return;
    const number = one.held?.pending ?? one.review?.examples ?? 0;
    const label = one.held?.label ?? one.review?.label ?? "";
    const done = await confirm({
      title: `Drop ${counted(number, "example")} of ${label}`,
      cost: h("p", null, "They are deleted and never learned; what is learned of the label stays. The same images may be taught again."),
      action: "Drop",
      kind: "bad",
      run: () => (one.held ? api.post("quarantine/drop", { label }) : api.post("quarantine/review/drop", one.review && selection(one.review))),
    });
    if (done) await load();
  };
  const current = () => (operator ? cases?.[at] : undefined);
  const step = (/** @type {number} */ by) => {
    at = Math.max(0, Math.min((cases?.length ?? 1) - 1, at + by));
    draw();
    const card = /** @type {HTMLElement | null} */ (root.querySelectorAll(".case")[at]);
    card?.focus();
  };

  const scope = keys.scope("Quarantine");
  scope.bind("j", "The next one", () => step(1));
  scope.bind("k", "The one before", () => step(-1));
  if (operator) {
    scope.bind("a", "Approve a new label", () => approve(current()));
    scope.bind("r", "Retry, or release from review", () => retry(current()));
    scope.bind("d", "Drop", () => void drop(current()));
  }

  const content = () => {
    const heading = h("h1", { tabindex: "-1" }, "Quarantine");
    if (!cases) return [heading, trouble(failed), failed ? null : loading("Asking what is held")];
    if (!cases.length) return [heading, trouble(failed), none()];
    return [
      h("div", { class: "head" }, heading, h("span", { class: "muted", role: "status" }, `${counted(cases.length, "case")} to decide`)),
      trouble(failed),
      cases.map((one, index) => card(one, index)),
    ];
  };
  const card = (/** @type {Case} */ one, /** @type {number} */ index) => {
    const { held, review, key } = one;
    const label = held?.label ?? review?.label ?? "";
    const ids = review?.ids ?? pending.get(label) ?? [];
    const number = held?.pending ?? review?.examples ?? 0;
    return h(
      "article",
      { key, class: ["panel", "case", index === at && "current"], tabindex: "-1", "aria-label": label, onfocusin: () => at !== index && ((at = index), draw()) },
      h("div", { class: "head" }, h("h2", null, h("bdi", null, label), " ", kindChip(one)), operator && h("div", { class: "buttons" }, buttons(one))),
      h("p", null, held ? held.reason : [REASONS[review?.reason ?? ""] ?? review?.reason, review?.principal ? ` Taught by ${review.principal}.` : ""]),
      h("p", { class: "muted small" }, counted(number, "example"), held && held.attempts > 0 ? `, set aside after ${counted(held.attempts, "step")}` : ""),
      wrong.has(key) ? h("p", { class: "notice bad", role: "alert" }, wrong.get(key)) : null,
      sees && session.input_shape.length !== 1 && ids.length
        ? h("div", { class: "case-images" }, ids.slice(0, IMAGES).map((id) => picture(address("examples/image", { label, kind: review ? "review" : "pending", id, side: SIDE }), `Example of ${label}`)))
        : null,
    );
  };
  const buttons = (/** @type {Case} */ one) => [
    one.held?.awaiting_approval ? button("Approve", () => approve(one), { key: "a" }) : button(one.review ? "Release" : "Retry", () => retry(one), { key: "r" }),
    button("Drop", () => void drop(one), { key: "d", kind: "bad" }),
  ];
  function draw() {
    render(root, content());
  }
  const unsubscribe = live.subscribe((what) => ["reviewed", "failed", "rejected", "committed", "reach"].includes(what) && void load());
  draw();
  void load();
  return {
    close: () => {
      unsubscribe();
      scope.close();
    },
  };
}

/** @param {Review} review */
function selection({ label, principal, reason }) {
  return { label, principal, reason };
}

/** @param {Case} one */
function kindChip({ held, review }) {
  if (review) return chip(review.reason, "warn");
  return held?.awaiting_approval ? chip("awaits approval", "do") : chip("set aside", "bad");
}

function none() {
  return empty(
    "Nothing is held",
    h("p", null, "Here you decide about what the learner does not take by itself: labels whose step failed or was rejected, new labels that await approval, and examples that look wrong."),
  );
}
