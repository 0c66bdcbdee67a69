/**
 * What the routes below `api/` answer: the fields of the SDK's values, as JSON. Only what the page reads is named.
 *
 * @typedef {{node: string, data_dir: string, release: string, needs_token: boolean, signed_in: boolean, principal: string,
 *   roles: string[], input_shape: number[], inbox_enabled: boolean}} Session
 * @typedef {{version: number, stage: string, done: number, total: number, loss: number | null, left_s: number | null}} Progress
 * @typedef {{version: number, active_version: number, pinned: boolean, classes: number, provisional_classes: number,
 *   phase: string, phase_reason: string, paused: boolean, learner_alive: boolean, pending: number,
 *   oldest_pending_ms: number, exemplars: number, exemplar_budget: number, holdout: number, engine: string,
 *   method: string, release: string, store_alive: boolean, store: string, input_shape: number[], held_labels: string[],
 *   in_review: number, unknown_rate: number, progress: Progress | null, waits_for: string[], warnings: string[],
 *   deep: string, inbox_open?: number, inbox_enabled?: boolean, node: string, data_dir: string}} Status
 * @typedef {{all: number | null, old: number | null, new: number | null, average_incremental: number | null,
 *   forgetting: number | null, examples: number, new_examples: number, old_examples?: number}} Accuracy
 * @typedef {{version: number, state: string, active: boolean, pinned: boolean, parent: number, created_ms: number,
 *   classes: number, new_labels: string[], method: string, accuracy: Accuracy, step_seconds: number, digest: string,
 *   reason: string, gate: Gate | null}} Version
 * @typedef {{old_before: number | null, old_after: number | null, max_old_drop: number, min_new: number}} Gate
 * @typedef {{label: string, examples: number, state: string}} PendingLabel
 * @typedef {{calls_per_s: number | null, p50_ms: number | null, p99_ms: number | null}} Traffic
 * @typedef {{status: Status, classes: {learned: number, provisional: number, pending: number, forgotten: number},
 *   pending: PendingLabel[], traffic: Traffic | null, versions: Version[] | null}} Now
 * @typedef {{id: string, kind: string, time_ms: number, [field: string]: any}} Happened
 * @typedef {{label: string, examples: number}} Confusion
 * @typedef {{label: string, state: string, pending: number, exemplars: number, holdout: number, since_version: number,
 *   correct: number | null, examples: number | null, low: number | null, high: number | null,
 *   confused_with: Confusion[]}} Class
 * @typedef {{id: string, label: string, kind: string, rank: number, synthesised: boolean, principal: string,
 *   media_type: string, reasons: string[]}} Example
 * @typedef {{examples: Example[], next_page_token: string, total: number}} Examples
 * @typedef {{label: string, probability: number, provisional: boolean}} Ranked
 * @typedef {{id: string, time_ms: number, version: number, labels: Ranked[], unknown: boolean, why: string,
 *   principal: string, state: string, label: string, by: string, group: number}} InboxItem
 * @typedef {{items: InboxItem[], next_page_token: string, open: number}} Inbox
 * @typedef {{id: string, outcome: string, code: string, reason: string, example_id: string}} Labelled
 * @typedef {{label: string, examples: number, correct: number, low: number, high: number}} Judged
 * @typedef {{label: string, predicted: string, examples: number}} Confused
 * @typedef {{id: string, label: string, predicted: string, probability: number}} Mistake
 * @typedef {{version: number, classes: Judged[], confusions: Confused[], mistakes: Mistake[], examples: number}} Evaluation
 * @typedef {{label: string, examples: number, base_correct: number, other_correct: number}} Change
 * @typedef {{id: string, label: string, base_predicted: string, other_predicted: string}} Differing
 * @typedef {{classes: Change[], gained: Differing[], lost: Differing[], examples: number}} Comparison
 * @typedef {{label: string, pending: number, attempts: number, reason: string, awaiting_approval: boolean}} Held
 * @typedef {{label: string, principal: string, reason: string, examples: number, bytes: number, ids: string[]}} Review
 * @typedef {{held: Held[], review: Review[]}} Quarantine
 * @typedef {{label: string, id: string, kind: string}} Near
 * @typedef {{labels: Ranked[], unknown: boolean, doubt: string | null, needs_review: boolean, version: number,
 *   nearest: Near[]}} Answer
 *
 * What each view is given.
 *
 * @typedef {{api: import("./api.js").Api, live: import("./live.js").Live, keys: import("./keys.js").Keys,
 *   labels: import("./labels.js").Labels, outbox: import("./outbox.js").Outbox, session: Session, rest: string[]}} Context
 * @typedef {{close: () => void, moved?: (rest: string[]) => void}} View
 */

export {};
