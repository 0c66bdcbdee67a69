"""What can be set about the store."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len

from accrete_storage import store_url


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where state is kept, and what an acknowledgement promises."""

    url: str = field(default="", repr=False)
    """`redis://`, `rediss://` or `unix://` address of a Redis >= 7.0 or Valkey, or `redis+sentinel://HOST:PORT/SERVICE`
    (`rediss+sentinel://`) of one that Sentinel watches; empty: the embedded server in the data directory, so that
    nothing needs to be installed."""
    prefix: Annotated[str, Len(1, 64)] = "accrete"
    """Start of every key, so that several servers can share one store."""
    ack: Literal["fsync", "memory"] = "fsync"
    """What an acknowledgement means: "fsync", the data is on disk; "memory", the store has it in memory and writes it
    within its own setting (a second, as a rule)."""
    timeout_s: Annotated[float, Gt(0)] = 5.0
    """Seconds to wait for the store to answer; longer than a slow fsync, shorter than a caller's patience."""
    dedup_days: Annotated[float, Gt(0), Le(36_500)] = 30.0
    """Days that an example's id is remembered, so that sending it again stores nothing."""
    pending_max_examples: Annotated[int, Ge(1)] = 100_000
    """Examples acknowledged and not yet learned; more are refused."""
    pending_max_bytes: Annotated[int, Ge(1)] = 4 * 2**30
    """Their bytes together; the store holds them in memory."""
    image_quality: Annotated[int, Ge(0), Le(100)] = 90
    """Quality of the JPEG (4:4:4) that an image of 64 x 64 pixels or more is stored as: a seventh of its bytes at 90,
    and nothing lost that a network would miss. Smaller images, and all of them with 0, are stored as they are."""

    def __post_init__(self) -> None:
        if self.url:
            try:
                store_url.check(self.url)
            except ValueError as error:
                raise ValueError(f"url = {store_url.shown(self.url)!r}: {error}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldoutConfig:
    """Examples set aside at arrival, never trained on, that measure every version."""

    share: Annotated[float, Ge(0), Le(0.5)] = 0.1
    """Part of each class's arrivals, 0 to 0.5, chosen by a hash of the id; a tenth costs little and measures enough."""
    cap: Annotated[int, Ge(0)] = 50
    """Most hold-out examples of one class; what comes beyond it is trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachingConfig:
    """What a principal may teach. Callers who are not asked for a name are one principal together."""

    examples_per_minute: Annotated[int, Ge(0)] = 0
    """Examples of one principal stored in a minute, which begins with the first of them; 0: no limit."""
    new_labels_per_day: Annotated[int, Ge(0)] = 0
    """Labels not known before that one principal may bring in a day, which begins with the first; 0: no limit."""
    pending_bytes: Annotated[int, Ge(0)] = 0
    """Bytes of one principal's examples not yet learned; 0: no limit but that of all together."""
    approve_new_labels: bool = False
    """Keep the examples of a label not known before set aside until `accrete approve`; it is neither trained nor
    answered provisionally."""
    exemplar_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Part of a class's places among the exemplars that one principal may take, at least one place; 1: all."""
    holdout_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """The same of the class's places in the hold-out (`holdout.cap`), by which the gate judges."""
    training_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Part of a class's examples in a step, new ones and exemplars, that may be one principal's; what is beyond it, and
    beyond `trigger.min_examples`, is set aside for review. 1: all. A class that one principal alone teaches is its."""
    review_confidence: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability of another label, by the live model, from which an example of a class that it knows is set aside for
    review (`accrete review`); 0: never."""
    review_duplicates: Annotated[int, Ge(0)] = 0
    """Pending examples of a label with nearly the same content that are learned; more are set aside. 0: any number."""
    review_burst: Annotated[int, Ge(0)] = 0
    """Examples of a label within a minute from one principal that are learned; if there are more, all of them are set
    aside. 0: any number, since an upload is a burst as well."""
