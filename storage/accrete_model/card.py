"""What model.json says of a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from accrete_model.errors import LoadError
from accrete_model.files import MODEL_FILE, SCHEMA
from accrete_model.input_spec import InputSpec
from accrete_model.rules import FITTED, HEADS, NME_SCALE, UNFITTED

FeatureChoice = Literal["last", "blocks"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a version is: its network, its classes, and how it scores them."""

    backbone: str
    spec: InputSpec
    feature_length: int
    labels: tuple[str, ...]
    """Of the classes, in the order of the head's rows; no label twice."""
    head: str
    """One of `rules.HEADS`."""
    rule: str
    """One of `rules.UNFITTED` or `rules.FITTED`."""
    method: str
    nme_scale: float = NME_SCALE
    """Of nearest-mean scores, with which provisional classes compete whatever the rule is."""
    last_relu: bool = False
    """Whether the backbone ends in a ReLU, as an engine that builds it again must know."""
    features: FeatureChoice = "last"
    """Whether the features are the backbone's last, or those of all its blocks, likewise."""
    frozen: str = ""
    """Digest of the frozen backbone that the version refers to; "": its files have a backbone of their own."""

    def to_json(self) -> str:
        """Return the text of model.json."""
        fields = {
            "schema": SCHEMA,
            "backbone": self.backbone,
            "last_relu": self.last_relu,
            "input": {"shape": list(self.spec.shape), "dtype": self.spec.dtype, **_cropping(self.spec)},
            "feature_length": self.feature_length,
            "labels": list(self.labels),
            "head": self.head,
            "rule": self.rule,
            "method": self.method,
            "nme_scale": self.nme_scale,
        }
        if self.features != "last":
            fields["features"] = self.features
        if self.frozen:
            fields["frozen"] = self.frozen
        return json.dumps(fields, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Return the card that a model.json holds.

        Raises:
            LoadError: (stage "read") when it is of another schema, or a field is missing or makes no sense.
        """
        try:
            fields = json.loads(data)
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema {fields['schema']}; this release reads {SCHEMA}")
            card = cls(
                backbone=str(fields["backbone"]),
                spec=_spec(fields["input"]),
                feature_length=int(fields["feature_length"]),
                labels=tuple(fields["labels"]),
                head=_one_of(fields, "head", tuple(HEADS)),
                rule=_one_of(fields, "rule", (*UNFITTED, *FITTED)),
                method=str(fields["method"]),
                nme_scale=float(fields["nme_scale"]),
                last_relu=bool(fields.get("last_relu", False)),
                features=_one_of({"features": "last", **fields}, "features", get_args(FeatureChoice)),  # type: ignore[arg-type]
                frozen=str(fields.get("frozen", "")),
            )
            _check_labels(card.labels)
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise LoadError("read", f"{MODEL_FILE}: {reason}") from error
        return card


def _cropping(spec: InputSpec) -> dict[str, int]:
    """Return what says that images are cropped; nothing where they are stretched, as in releases that did only that."""
    return {"shorter_side": spec.shorter_side} if spec.shorter_side else {}


def _spec(fields: Mapping[str, Any]) -> InputSpec:
    shape = tuple(int(size) for size in fields["shape"])
    return InputSpec(shape, fields["dtype"], int(fields.get("shorter_side", 0)))


def _one_of(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    if fields[name] not in allowed:
        raise ValueError(f"{name} {fields[name]!r}; known: {', '.join(allowed)}")
    return str(fields[name])


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise ValueError("labels must be texts that are not empty, at least one")
    if len(set(labels)) != len(labels):
        raise ValueError("a label appears twice")
