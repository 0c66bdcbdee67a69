"""What the calls return, as plain values: no protobuf reaches the caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ._errors import InvalidInput

Outcome = Literal["stored", "duplicate", "refused"]
ClassState = Literal["pending", "provisional", "learned", "forgotten", "unknown"]
Phase = Literal["waiting", "staging", "training", "gating", "committing", "paused", "blocked", "unknown"]
ServerState = Literal["serving", "draining", "unspecified"]
VersionState = Literal["ready", "rejected", "retired", "unknown"]
ExampleKind = Literal["exemplars", "holdout", "pending", "review", "unknown"]
Doubt = Literal["unknown", "provisional", "improbable"]
InboxOrder = Literal["doubt", "newest", "look"]
InboxState = Literal["open", "labelled", "skipped", "unknown"]

SURE = 0.8
"""Probability from which an answer is not doubted unless another threshold is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedLabel:
    """One label of a prediction."""

    label: str
    probability: float
    """0 to 1. Over all classes that the server can predict they sum to 1."""
    provisional: bool
    """The class is known by its prototype alone. A training step has yet to learn it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Where the server spent its time on a call, in milliseconds."""

    decode_ms: float
    queue_ms: float
    compute_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The prediction for one image. `label`, `probability` and `provisional` are those of the most probable label."""

    ranked: tuple[RankedLabel, ...]
    """Most probable first."""
    version: int
    """The model version that all of this comes from."""
    timings: Timings
    """Of the call, which may have carried more images than this one."""
    unknown: bool = False
    """No class is near enough, by the `unknown_rate` that was asked for. `ranked` has the nearest all the same."""
    false_alarm_rate: float = 0.0
    """Share of images of known classes that are called unknown, by the hold-out; 0 when nothing is."""
    features: NDArray[np.float32] | None = field(default=None, compare=False)
    """The model's feature vector, float32 [d], when asked for."""
    refused: str = ""
    """Why the image cannot be used, with its file's name, where it was one of several; `ranked` is empty then, and
    `label` and its like raise InvalidInput. Empty for an answer."""

    @property
    def label(self) -> str:
        return self._best.label

    @property
    def probability(self) -> float:
        return self._best.probability

    @property
    def provisional(self) -> bool:
        return self._best.provisional

    @property
    def _best(self) -> RankedLabel:
        if self.refused:
            raise InvalidInput(self.refused)
        return self.ranked[0]

    def doubt(self, threshold: float = SURE) -> Doubt | None:
        """Return why a person should look at this, or None where the answer may be taken as it is.

        The reasons, the first that holds: the image is like nothing that is known ("unknown", where that is asked for
        or the server has it on), no step has learned the class yet ("provisional"), or the answer's probability is
        below the threshold ("improbable"). The second label needs no rule of its own: where the first has 0.8, it has
        0.2 at most, and its distance tells right answers from wrong ones no better than the probability does.

        Args:
            threshold: 0 to 1. Where probabilities are calibrated, of answers that are just as probable as this, this
                share is right, and of all that are taken as they are more is. `Client.evaluate` measures both.
        """
        if self.unknown:
            return "unknown"
        if self.provisional:
            return "provisional"
        return "improbable" if self.probability < threshold else None

    @property
    def needs_review(self) -> bool:
        """Whether a person should look at this, by `doubt` with its default threshold."""
        return self.doubt() is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleResult:
    """What became of one example."""

    index: int
    """Its place among the examples given, from 0."""
    id: str
    """The given one, or the one that the server made from label and content. Empty when refused before it had one."""
    label: str
    outcome: Outcome
    """"stored" now; "duplicate": stored before, with the same content; "refused": not stored."""
    reason: str = ""
    """Why it was refused."""
    code: str = ""
    """For refused ones, the gRPC status code's name: "INVALID_ARGUMENT", "ALREADY_EXISTS", ..."""
    source: str = ""
    """The path, when the image was given as one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AddReport:
    """What became of all examples of one call. `stored + duplicates` are kept by the server now."""

    stored: int
    duplicates: int
    refused: list[ExampleResult]
    ids: list[str]
    """Ids of all that are kept, in the order given: what `wait_learned` takes."""
    skipped: dict[str, int] = field(default_factory=dict)
    """How many files or folders of a tree were passed over, by reason; see `Client.add_folder`."""

    @classmethod
    def of(cls, results: Iterable[ExampleResult]) -> AddReport:
        """Add up results, such as those of `stream_examples`."""
        stored, refused, ids = 0, [], []
        for result in results:
            if result.outcome == "refused":
                refused.append(result)
                continue
            stored += result.outcome == "stored"
            ids.append(result.id)
        return cls(stored=stored, duplicates=len(ids) - stored, refused=refused, ids=ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Measured on the hold-out, 0 to 1; None where there is nothing to measure."""

    all: float | None
    old: float | None
    """On the classes that the parent version knew."""
    new: float | None
    """On the classes that the step added."""
    average_incremental: float | None
    """Mean of `all` over the versions so far."""
    forgetting: float | None
    """Mean over the old classes of the best accuracy any earlier version had on the class, less this version's."""
    examples: int
    """Hold-out examples measured."""
    new_examples: int = 0
    """Those of them that `new` is of. 0 also for a version that an earlier release made."""

    @property
    def old_examples(self) -> int:
        """Those of them that `old` is of; 0 also where it is not known."""
        counted = self.new is None or self.new_examples
        return self.examples - self.new_examples if self.old is not None and counted else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepProgress:
    """How far the step is that runs."""

    version: int
    """The number that its version will have."""
    stage: str
    """"train", "rebalance", "exemplars", "evaluate" or "export"."""
    done: int
    """Epochs or parts, of `total`."""
    total: int
    loss: float | None
    """Mean training loss of the last epoch; None in stages that have none."""
    left_s: float | None
    """Seconds that the stage will still take at its pace so far; None while that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The state of the server, the learner and the store."""

    version: int
    """The version that this server predicts with; 0 for none yet."""
    active_version: int
    """The version that is active in the store. It differs while a server is catching up."""
    pinned: bool
    classes: int
    provisional_classes: int
    phase: Phase
    paused: bool
    learner_alive: bool
    pending: int
    """Examples not yet learned."""
    oldest_pending_ms: int
    """Age of the oldest of them."""
    exemplars: int
    exemplar_bytes: int
    exemplar_budget: int
    """Exemplars allowed."""
    holdout: int
    engine: str
    method: str
    release: str
    store_alive: bool
    """Whether the store responds. If not, what comes from it is 0."""
    store: str
    input_shape: tuple[int, ...]
    """(height, width, channels), or (length,) for embeddings."""
    held_labels: tuple[str, ...]
    """Labels in quarantine, after failed or rejected steps or until approved; `Client.held` says why."""
    phase_reason: str
    """What started the phase; what is damaged when it is "blocked"; when "waiting", what the gate could not judge."""
    in_review: int
    """Examples set aside for review, not counted in `pending`; `Client.review` says why."""
    unknown_rate: float
    """The server's setting: the share of false alarms at which images are called unknown; 0 for off."""
    false_alarm_rate: float
    """What the live version's hold-out allows of that; 0 when nothing is called unknown."""
    node: str = ""
    """The node's name, which a client may insist on."""
    data_dir: str = ""
    """The data directory, on the server's machine."""
    progress: StepProgress | None = None
    """How far the step is that runs; None while none does, and before its first progress."""
    waits_for: tuple[str, ...] = ()
    """What pending examples wait for before a step starts, as sentences for people."""
    warnings: tuple[str, ...] = ()
    """Settings that come to nothing with what is stored, as sentences for people."""
    deep: str = ""
    """How far a deep step is or what became of the last one, for people; empty for none."""
    roles: tuple[str, ...] = ()
    """What this client's caller may do: "predict", "teach", "operate", "metrics"; all where nobody is asked."""
    principal: str = ""
    """Who this client's caller is; empty where nobody is asked."""
    inbox_enabled: bool = False
    """Whether images that the model is unsure of are kept; see `Client.inbox`."""
    inbox_open: int = 0
    """Images in the inbox that nobody has labelled or skipped."""
    servers: int = 0
    """How many servers calls may be spread over; 0 where the server tells of none. See `Client.servers`."""
    front: str = ""
    """How predictions come from gRPC, and why in this way, for people; empty where the server does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassInfo:
    """A class and what is kept of it."""

    label: str
    state: ClassState
    pending: int
    exemplars: int
    holdout: int
    since_version: int
    """The version that first knew it; 0 for none yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldLabel:
    """A label in quarantine, that is, whose pending examples are set aside."""

    label: str
    pending: int
    """Examples pending now."""
    attempts: int
    """Steps that failed in a row before: 1 for a step that the gate rejected, 0 for a label that awaits approval."""
    reason: str
    awaiting_approval: bool = False
    """It is new, and waits for `Client.approve`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewGroup:
    """Examples set aside for review, of one label, principal and reason."""

    label: str
    principal: str
    """Who taught them; empty where nobody is asked for a name."""
    reason: str
    """"contradiction", "duplicates", "burst" or "share"; see the settings `teaching.review_*` and `training_share`."""
    examples: int
    bytes: int
    ids: tuple[str, ...]
    """Of the first ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxItem:
    """An image that somebody asked about and the model was unsure of."""

    id: str
    """Of the image, and of the example once it is labelled."""
    time_ms: int
    """When it was asked about, milliseconds since 1970."""
    version: int
    """That answered."""
    labels: tuple[RankedLabel, ...]
    """What was answered: up to five, most probable first, without classes that were forgotten since."""
    unknown: bool
    """It was near no class."""
    why: str
    """Why it is kept: "unknown", "provisional" or "margin"."""
    doubt: float
    """0 to 1: 1 less the distance between the two greatest probabilities; 1 for what is near no class."""
    principal: str
    """Who asked; empty where nobody is asked for a name."""
    state: InboxState
    label: str
    """That was given to it; empty unless it is labelled."""
    by: str
    """Who labelled or skipped it; empty where nobody is asked for a name."""
    decided_ms: int
    """When that was, milliseconds since 1970; 0 while it is open."""
    group: int
    """Number of the group of alike images, from 1, where the order is "look"; 0: none."""
    image: bytes = b""
    """A JPEG, PNG or WebP file; empty where none was asked for, and where it cannot be read."""
    media_type: str = ""
    """"image/jpeg", "image/png" or "image/webp"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """A page of the inbox."""

    items: tuple[InboxItem, ...]
    next_page_token: str
    """For the next page; empty for the last one."""
    open: int
    """Images that are open, on all pages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxImage:
    """One image of the inbox."""

    image: bytes
    """A JPEG, PNG or WebP file."""
    media_type: str
    """"image/jpeg", "image/png" or "image/webp"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxResult:
    """What became of a label."""

    id: str
    outcome: Outcome
    """"stored" now; "duplicate": it had this label before; "refused": not stored."""
    example_id: str = ""
    """What `Client.wait_learned` and `delete_examples` take; empty when refused."""
    reason: str = ""
    """Why it was refused; where somebody else was first, who said what."""
    code: str = ""
    """For refused ones, the gRPC status code's name: "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxReport:
    """How many images were skipped or are open again, and which were not."""

    changed: int
    unknown: list[str]
    """Ids that are not in the inbox, or no longer; of skipped ones also those that are labelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """A candidate held against the version before it, shares of 0 to 1."""

    old_before: float | None
    """Accuracy on the classes that both know, of the version before; None where too few examples measure it."""
    old_after: float | None
    """The same of the candidate."""
    max_old_drop: float
    """What the second may be below the first. A greater drop passes only if it may be chance."""
    min_new: float
    """What the accuracy on new classes must reach; 0: anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionInfo:
    """A model version."""

    version: int
    state: VersionState
    active: bool
    pinned: bool
    parent: int
    """The version it was trained from; 0 for none."""
    created_ms: int
    """Milliseconds since 1970."""
    labels: tuple[str, ...]
    new_labels: tuple[str, ...]
    method: str
    accuracy: Accuracy
    step_seconds: float
    digest: str
    reason: str
    """Why it was rejected, given up, or could not be judged by the gate."""
    gate: Gate | None = None
    """What the gate held against what; None where it was open, of a first version, and of one by an earlier release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """A server that calls may be spread over."""

    id: str
    """Of this run of its process."""
    address: str
    """Where clients reach it, as it says itself."""
    state: ServerState
    started_ms: int
    """Milliseconds since 1970, by its own clock."""
    release: str
    version: int
    """The version that it predicts with; 0 for none yet."""
    busyness: float
    """Share of its turns to predict that were busy of late, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredExample:
    """An example as it is stored."""

    id: str
    """Empty where the record cannot be read."""
    label: str
    kind: ExampleKind
    """Where it is stored: among the exemplars, in the hold-out, pending, or in review."""
    image: bytes
    """A PNG or JPEG file; empty for an embedding, where none was asked for, and where it cannot be read."""
    media_type: str
    """"image/png" or "image/jpeg"; empty without an image."""
    rank: int
    """Of an exemplar, from 1, best first; 0 for others."""
    synthesised: bool
    """A step made it, rather than somebody taught it."""
    principal: str
    """Who taught it; empty where nobody is asked for a name."""
    metadata: Mapping[str, str]
    reasons: tuple[str, ...] = ()
    """Why it was set aside for review; see `ReviewGroup`."""
    damage: str = ""
    """What is wrong with it where it cannot be read, as a sentence for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplePage:
    """A page of a label's examples."""

    examples: tuple[StoredExample, ...]
    next_page_token: str
    """For the next page; empty for the last one."""
    total: int
    """How many examples there are, or of the ids that were asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEvaluation:
    """How right a version was on a class."""

    label: str
    examples: int
    """Images of the class that it judged."""
    correct: int
    low: float
    """The 95 % interval of the share that is right, 0 to 1 (Wilson's score interval, JASA 1927); 0 and 1 of none."""
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusedClasses:
    """How often a version took images of a label for another one."""

    label: str
    predicted: str
    examples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MisjudgedExample:
    """A stored example that a version got wrong."""

    id: str
    label: str
    predicted: str
    probability: float
    """Of the predicted label, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionEvaluation:
    """How a version judged the examples that its step measured it by.

    They are those of the hold-out. With a closed form they are examples that it has learned, at most 1,000, each
    answered by the head that never saw it.
    """

    version: int
    classes: tuple[ClassEvaluation, ...]
    """In the order in which they came, without those forgotten since."""
    confusions: tuple[ConfusedClasses, ...]
    """Most frequent first; at most 5,000."""
    mistakes: tuple[MisjudgedExample, ...]
    """Those first that it was most certain of; at most 2,000, without what was deleted since."""
    examples: int
    """That it judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassChange:
    """How right two versions are on a class, on the examples that both judged."""

    label: str
    examples: int
    base_correct: int
    other_correct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferentlyJudged:
    """A stored example that one version got right and another wrong."""

    id: str
    label: str
    base_predicted: str
    other_predicted: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionComparison:
    """Two versions on the examples that both judged: of more than 2,000 a random sample, the same for all versions."""

    classes: tuple[ClassChange, ...]
    """Worst change first."""
    gained: tuple[DifferentlyJudged, ...]
    """That the other version has right and the base had wrong."""
    lost: tuple[DifferentlyJudged, ...]
    """That the base had right and the other version has wrong."""
    examples: int
    """That both judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """The version that is live now, and whether it stays so until unpinned."""

    version: int
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Discarded:
    """What follows from giving up a damaged version."""

    base: int
    """The version that steps start from now; 0 when none is left."""
    relearned: tuple[str, ...]
    """Labels that are to be learned again from their exemplars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteReport:
    """What became of a deletion."""

    deleted: int
    unknown: list[str]
    """Ids that are not kept anywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetReport:
    """How many examples of a forgotten class were removed, by where they were kept."""

    pending: int
    exemplars: int
    holdout: int
