"""What a protocol is asked to do, and the names by which methods are asked for.

A method is asked for as `name`, `name+selection`, `name@rule` or `name+selection@rule`; a `~` before the name asks for
weight transfer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from accrete_experiments.protocols.results import with_current_names
from accrete_learner.config import MethodConfig, ModelConfig, Pixels, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A stream of classes and all that every method of a comparison shares.

    Raises:
        ValueError: on counts that make no stream.
    """

    data: str
    """As `protocols.data.load` takes it."""
    digest: str
    """Of the data, so that results of other data are not taken for these."""
    classes: int
    """Classes used, from the front of the order."""
    base: int
    """Classes of the first task."""
    step: int
    """Classes of each later task."""
    order: str = "1993"
    """`1993`: the papers' order of 100 classes; `seed`: each seed its own; or a number to draw one order by."""
    per_class: int = 0
    """Training examples of a class at most; 0: all."""
    epochs: str = ""
    """Empty: each method's own. A number: as many for each method in each task. `10%`: of each method's own."""
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    exemplar_pixels: Pixels = "uint8"
    """How made exemplars are kept."""
    synthesis_iterations: int | None = None
    """Of every way to make exemplars by optimisation; None: each one's own."""

    def __post_init__(self) -> None:
        if not (1 <= self.base <= self.classes and self.step >= 1):
            raise ValueError(
                f"base {self.base}, step {self.step} of {self.classes} classes: base must be 1 to {self.classes}, "
                "step at least 1"
            )
        self.scaled(100)

    def scaled(self, own: int) -> int | None:
        """Return the epochs in place of a method's `own`, None to leave them.

        Raises:
            ValueError: when `epochs` is neither a number nor a percentage.
        """
        text = self.epochs.strip()
        if not text:
            return None
        try:
            found = max(1, round(own * float(text[:-1]) / 100)) if text.endswith("%") else int(text)
        except ValueError as error:
            raise ValueError(f"epochs = {self.epochs!r}: must be a number, or a percentage such as 10%") from error
        if found < 1:
            raise ValueError(f"epochs = {self.epochs!r}: must be at least 1")
        return found

    def trained_with(self, method: Method, seed: int) -> TrainingConfig:
        """Return how this method trains here."""
        return replace(
            self.training,
            base_epochs=self.scaled(method.base.epochs),
            epochs=self.scaled(method.increment.epochs),
            seed=seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        found = with_current_names(raw)
        return cls(
            **{
                **found,
                "model": ModelConfig(**found["model"]),
                "training": TrainingConfig(**found["training"]),
                "memory": MemoryConfig(**found["memory"]),
            }
        )


def parse(asked: str) -> MethodConfig:
    """Return the method asked for as `[~]name[+selection][@rule]`.

    Raises:
        ValueError: naming what there is, when one of the parts is unknown.
    """
    rest, _, rule = asked.partition("@")
    name, _, selection = rest.partition("+")
    return MethodConfig(
        name=name.removeprefix("~"),
        selection=selection,  # type: ignore[arg-type]
        rule=rule,  # type: ignore[arg-type]
        weight_transfer=name.startswith("~"),
    )


def first_training(method: Method, training: TrainingConfig, protocol: Protocol) -> str:
    """Return a digest of all that decides what a first task trains. Methods that share it may share its result.

    Args:
        method: configured as it runs.
        training: how it trains.
        protocol: the stream.
    """
    head = method.head
    parts = (
        repr((head.kind, head.non_negative, method.base_terms(), method.base, method.augmentation)),
        repr((method.last_relu, training.seed, method.base.batch_size, training.precision, training.device)),
        json.dumps(_named(protocol.model), sort_keys=True),
        repr((protocol.digest, protocol.order, protocol.base, protocol.per_class)),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _named(model: ModelConfig) -> dict[str, Any]:
    """Return what names a model: the fields of the first release, and of later ones those that are not as they come.

    A run in progress then finds its first training under the same name after a release with more fields.
    """
    first = ("backbone", "channels", "embedding", "input_size", "weights")
    defaults = {item.name: item.default for item in fields(model)}
    return {
        name: value for name, value in asdict(model).items() if name in first or (value and value != defaults[name])
    }
