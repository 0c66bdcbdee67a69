"""The settings of the learner's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from accrete_learner.config import DeepConfig, MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_storage.config import TeachingConfig


@dataclass(frozen=True, kw_only=True)
class TriggerConfig:
    """When an incremental step starts."""

    classes_per_step: Annotated[int, Ge(1)] = 1
    """New classes that start a step once each has `min_examples`; 1 learns each class as soon as it can be learned."""
    first_classes: Annotated[int, Ge(1)] = 2
    """The same for the first step, which starts from nothing; 2, for a model of one class tells nothing apart."""
    min_examples: Annotated[int, Ge(1)] = 20
    """Examples that a new class needs, those set aside for the hold-out included; as many as exemplars are kept."""
    max_wait_s: Annotated[float, Ge(0)] = 120.0
    """Seconds that an example may be pending before a step starts with all that is; what bounds the time to learn."""
    refresh_examples: Annotated[int, Ge(1)] = 100
    """New examples of known classes that start a step of their own; some five times a class's exemplars."""
    settle_s: Annotated[float, Ge(0), Le(60)] = 1.0
    """Seconds without a new example before a step starts by count, so that an upload is not cut in two. At most ten
    times as long: a stream that never rests is not kept waiting. 0: at once."""


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a candidate must show on the hold-out before it may serve."""

    enabled: bool = True
    """False lets every candidate that loads pass; for demonstrations of what forgetting does."""
    max_old_drop: Annotated[float, Ge(0), Le(1)] = 0.1
    """Accuracy that the old classes may lose against the parent, which had fewer classes to tell apart; more is a
    failed step rather than the price of learning."""
    min_new: Annotated[float, Ge(0), Le(1)] = 0.0
    """Accuracy that the new classes must reach; 0 asks nothing, since chance depends on the number of classes."""
    min_holdout: Annotated[int, Ge(1)] = 20
    """Hold-out examples of the classes in question before the gate judges; with fewer, one answer weighs over 5 %."""


@dataclass(frozen=True, kw_only=True)
class LearnerServiceConfig:
    """The learner's process."""

    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    """When a step starts."""
    gate: GateConfig = field(default_factory=GateConfig)
    """What a candidate must pass."""
    method: MethodConfig = field(default_factory=MethodConfig)
    """How a step learns."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """What learns."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """For how long, on what."""
    deep: DeepConfig = field(default_factory=DeepConfig)
    """When a backbone is trained, and what it must gain."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Exemplars kept."""
    teaching: TeachingConfig = field(default_factory=TeachingConfig)
    """What one principal may have of a class."""
    nice: Annotated[int, Ge(0), Le(19)] = 19
    """Priority of the trainer; 19 yields to everything, so that serving keeps its cores."""
    own_nice: Annotated[int, Ge(0), Le(19)] = 10
    """Priority of the learner's own computing (prototypes, the parent's accuracy): below serving, above training."""
    keep_versions: Annotated[int, Ge(1)] = 5
    """Ready versions whose files are kept for a roll-back; the active one is kept besides."""
    metrics_host: str = "127.0.0.1"
    """Address of /metrics; this machine alone by default, since it has no authentication."""
    metrics_port: Annotated[int, Ge(0), Le(65535)] = 9465
    """Port of /metrics; 0 takes any free one, written to learner.json in the data directory."""
    poll_s: Annotated[float, Ge(0.01), Le(60)] = 0.2
    """Seconds between looks at the store: a fifth of the second in which a new class may be predicted."""
    provisional_min_examples: Annotated[int, Ge(1)] = 3
    """Pending examples from which on a new class is answered before any step, marked provisional; with one or two, a
    single odd image is most of what is known of it."""
    provisional_max_drop: Annotated[float, Ge(0), Le(1)] = 0.05
    """Accuracy that the trained classes may lose to all provisional ones together, set on the hold-out; never more than
    `gate.max_old_drop`. More: provisional classes are found more often, and answered wrongly more often."""
    lease_s: Annotated[float, Ge(1), Le(600)] = 10.0
    """Seconds after which another learner may take over from one that no longer answers."""
    max_failures: Annotated[int, Ge(1)] = 3
    """Failed attempts at the same inputs before they are set aside until more come, halves being tried first."""
    retry_s: Annotated[float, Ge(0)] = 2.0
    """Seconds before a failed step's second attempt; doubled before each further one."""
