"""A backbone that heads are learned on as it is, with everything that tells it from another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accrete_model.errors import LoadError
from accrete_model.input_spec import InputSpec

SCHEMA = 1
"""Number of the form that backbone.json names."""
CARD_FILE = "backbone.json"


@dataclass(frozen=True, kw_only=True)
class FrozenBackbone:
    """A graph from images to features, and what people and programs want to know of it. It holds nothing of a user."""

    name: str
    """As `model.backbone` has it: "efficientnet_lite0", "onnx:clip.onnx" (the file's name alone)."""
    spec: InputSpec
    """Of one image. Everything after it is in the graph: scaling, layout, padding."""
    feature_length: int
    parts: tuple[tuple[str, int], ...]
    """Names and lengths of what a feature vector is made of, in its order; they add up to `feature_length`."""
    shorter_side: int
    """Pixels that an image's shorter side is brought to, before the middle of it is taken as the input; 0: the whole
    image is stretched to the input's form."""
    licence: str
    """Of the weights, an SPDX name; "" where the user brought them."""
    source: str
    """Where the weights come from, with their SHA-256."""
    graph: bytes
    """ONNX, from "input" uint8 [N, *spec.shape] to "features" float32 [N, feature_length]."""
    tuned_from: str = ""
    """Digest of the backbone that a deep step trained to become this one, "" where none did."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the card and the graph, in hexadecimal: equal digests compute equal features."""
        return digest_of(self.card().encode(), self.graph)

    def card(self) -> str:
        """Return the text of backbone.json."""
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "input": {"shape": list(self.spec.shape), "dtype": self.spec.dtype},
            "feature_length": self.feature_length,
            "parts": [[name, length] for name, length in self.parts],
            "shorter_side": self.shorter_side,
            "licence": self.licence,
            "source": self.source,
        }
        if self.tuned_from:  # left out elsewhere, for a digest must not change with the release
            fields["tuned_from"] = self.tuned_from
        return json.dumps(fields, ensure_ascii=False, indent=1)

    @classmethod
    def from_card(cls, card: bytes, graph: bytes) -> FrozenBackbone:
        """Return the backbone that a backbone.json and its graph are.

        Raises:
            LoadError: (stage "read") when the card is of another schema, or a field is missing or makes no sense.
        """
        try:
            fields: dict[str, Any] = json.loads(card)
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema {fields['schema']}; this release reads {SCHEMA}")
            return cls(
                name=str(fields["name"]),
                spec=InputSpec(tuple(int(size) for size in fields["input"]["shape"]), fields["input"]["dtype"]),
                feature_length=int(fields["feature_length"]),
                parts=tuple((str(name), int(length)) for name, length in fields["parts"]),
                shorter_side=int(fields["shorter_side"]),
                licence=str(fields["licence"]),
                source=str(fields["source"]),
                graph=graph,
                tuned_from=str(fields.get("tuned_from", "")),
            )
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise LoadError("read", f"{CARD_FILE}: {reason}") from error


def digest_of(card: bytes, graph: bytes) -> str:
    """Return the digest of a backbone from the bytes of its two files."""
    digest = hashlib.sha256(len(card).to_bytes(8, "little"))
    digest.update(card)
    digest.update(graph)
    return digest.hexdigest()
