/** What happened, newest first: versions learned, rejected and rolled back, classes come and gone. */

import { h } from "../../core/dom.js";
import { ago, clock, counted, duration, few, named, percent } from "../../core/format.js";
import { link } from "../../core/router.js";

const MOST = 24;

/** @typedef {{key: string, time: number, kind: string, what: string, version?: number, more: string}} Entry */

/**
 * @param {import("../../core/types.js").Version[]} versions Newest first.
 * @param {import("../../core/types.js").Happened[]} events Newest first.
 */
export function timeline(versions, events) {
  const entries = [...versions.map(ofVersion), ...events.flatMap(ofEvent)].sort((a, b) => b.time - a.time);
  if (!entries.length) return null;
  return h(
    "section",
    { class: "panel", "aria-labelledby": "timeline" },
    h("h2", { id: "timeline" }, "What happened"),
    h(
      "ol",
      { class: "timeline" },
      entries.slice(0, MOST).map(({ key, time, kind, what, version, more }) =>
        h(
          "li",
          { key, class: kind },
          h("time", { title: clock(time), datetime: new Date(time).toISOString() }, ago(time)),
          h("span", { class: "what" }, version ? h("a", { href: link("versions", version) }, `v${version}`) : null, version ? " " : "", what),
          more && h("span", { class: "muted small more" }, more),
        ),
      ),
    ),
  );
}

/**
 * @param {import("../../core/types.js").Version} version
 * @returns {Entry}
 */
function ofVersion({ version, state, created_ms: time, accuracy, new_labels: labels, step_seconds: seconds, reason }) {
  const learned = labels.length ? `learned ${few(labels)}` : "learned more of what it knew";
  const rejected = state === "rejected";
  const measured = accuracy.all === null ? "" : `${percent(accuracy.all)} right, `;
  return {
    key: `v${version}`,
    time,
    version,
    kind: rejected ? "bad" : "good",
    what: rejected ? "was rejected" : learned,
    more: rejected ? reason : `${measured}${duration(seconds)}`,
  };
}

/**
 * @param {import("../../core/types.js").Happened} event
 * @returns {Entry[]}
 */
function ofEvent(event) {
  /** @type {Record<string, () => Omit<Entry, "key" | "time"> | false>} */
  const told = {
    activated: () => event["pinned"] && { kind: "warn", version: event["version"], what: "was made live and pinned", more: "" },
    failed: () => ({ kind: "bad", what: "A step failed", more: event["reason"] }),
    forgotten: () => ({ kind: "warn", what: `${named(event["label"])} was forgotten`, more: "" }),
    renamed: () => ({ kind: "", what: `${named(event["label"])} is ${event["merged"] ? "part of " : ""}${named(event["new_label"])} now`, more: "" }),
    provisional: () => ({ kind: "", what: `${named(event["label"])} can be predicted, provisionally`, more: `from ${counted(event["examples"], "example")}` }),
    reviewed: () => ({ kind: "warn", what: `${counted(event["examples"], "example")} of ${named(event["label"])} set aside for review`, more: event["reasons"].join(", ") }),
    discarded: () => ({ kind: "", what: "A step was given up and is run anew", more: event["reason"] }),
  };
  const entry = told[event.kind]?.();
  return entry ? [{ key: event.id, time: event.time_ms, ...entry }] : [];
}
