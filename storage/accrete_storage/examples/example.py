"""A labelled example as it is stored, and its bytes.

An example is kept as the model takes it, decoded, turned upright and in the model's size. Training and serving then see
the same pixels, but for what JPEG takes from large ones. Examples are told apart by what was sent, before anything of
it is dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import msgpack
import numpy as np

from accrete_storage.errors import CorruptRecord
from accrete_storage.examples.encoded_image import EncodedImage
from accrete_storage.examples.ids import content_digest

_DTYPES: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype(np.uint8),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ENCODED = "jpeg"
"""Stands in a record where otherwise the type of its numbers does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A labelled example."""

    id: str
    label: str
    content: np.ndarray | EncodedImage
    """As it is stored; `tensor` is what a model takes."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    made_from: frozenset[str] = frozenset()
    """Ids of the examples that a synthesised exemplar was made from; it is deleted with any of them."""
    principal: str = ""
    """Who taught it; "" when no name was asked, or when a step made an exemplar."""

    @cached_property
    def tensor(self) -> np.ndarray:
        """uint8 [height, width, channels], or float16 for an exemplar that a step made; or float32 [length].

        A stored image is decoded with the first look at it, so that what only asks for ids costs no decoding.

        Raises:
            CorruptRecord: it cannot be decoded.
        """
        return self.content.decode() if isinstance(self.content, EncodedImage) else self.content

    def digest(self) -> bytes:
        """Return 16 bytes over label and content, without id and metadata."""
        return content_digest(self.label, self.tensor)


class Arrival(NamedTuple):
    """An example packed for the pending log."""

    id: str
    label: str
    principal: str
    digest: str
    """Hexadecimal, of what was sent; see `sent_digest`."""
    record: bytes
    """See `pack`."""
    earlier_digest: str
    """Hexadecimal, what an earlier release remembers of the same; see `Example.digest`."""
    earlier_id: str
    """The id by which an earlier release stored the same, if it did."""
    under: Callable[[str], list[tuple[str, str]]]
    """Returns each id, with its digest, by which the same would have been stored had its class that other label."""

    @classmethod
    def of(
        cls,
        example: Example,
        sent: Callable[[str], bytes] | None = None,
        *,
        digest: bytes | None = None,
        has_own_id: bool = True,
        image_quality: int = 0,
    ) -> "Arrival":
        """Pack an example.

        Args:
            example: to pack.
            sent: returns the digest of what was sent, given a label; None: it is the example's.
            digest: what `sent` returns for the example's label, where that is known.
            has_own_id: whether its id is its sender's, and no digest.
            image_quality: of the JPEG that a large image becomes, 1 to 100; 0: it stays as it is.

        Raises:
            ValueError: for a tensor of a type that is not stored.
        """
        earlier = example.digest()
        if digest is None:
            digest = earlier if sent is None else sent(example.label)

        def under(label: str) -> list[tuple[str, str]]:
            own = content_digest(label, example.tensor)
            digests = dict.fromkeys(one.hex() for one in (own if sent is None else sent(label), own))
            return [(example.id if has_own_id else one, one) for one in digests]

        return cls(
            id=example.id,
            label=example.label,
            principal=example.principal,
            digest=digest.hex(),
            record=pack(_encoded(example, image_quality)),
            earlier_digest=earlier.hex(),
            earlier_id=example.id if has_own_id else earlier.hex(),
            under=under,
        )


def _encoded(example: Example, quality: int) -> Example:
    if isinstance(example.content, EncodedImage):
        return example
    image = EncodedImage.of(example.content, quality)
    return example if image is None else replace(example, content=image)


def pack(example: Example) -> bytes:
    """Return an example's bytes (MessagePack). An encoded image keeps its bytes, however often it is stored anew.

    Raises:
        ValueError: for a tensor that is not uint8, float16 or float32.
    """
    content = example.content
    if isinstance(content, EncodedImage):
        kind, values = _ENCODED, content.data
    else:
        tensor = np.ascontiguousarray(content)
        if tensor.dtype not in _NAMES:
            raise ValueError(f"an example is uint8, float16 or float32, not {content.dtype}")
        kind, values = _NAMES[tensor.dtype], tensor.tobytes()
    fields = [example.id, example.label, kind, content.shape, values, dict(example.metadata)]
    # Left out where both are empty, so that the bytes are those of releases that had neither.
    if example.made_from or example.principal:
        fields += [sorted(example.made_from), example.principal]
    packed: bytes = msgpack.packb(fields)
    return packed


def unpack(data: bytes, label: str | None = None) -> Example:
    """Return the example of these bytes, its tensor read-only.

    Args:
        data: a record.
        label: of the class under whose key it is, which may have been renamed since; None: the one in the record.

    Raises:
        CorruptRecord: when they are no example. Whether an encoded image is one shows when it is decoded.
    """
    try:
        example_id, packed_label, kind, shape, values, metadata, *rest = msgpack.unpackb(data)
        made_from = rest[0] if rest else ()
        principal = rest[1] if len(rest) > 1 else ""
        content = _content(kind, shape, values)
        texts = (example_id, packed_label, principal)
        if not (all(isinstance(text, str) for text in texts) and isinstance(metadata, dict)):
            raise TypeError("id, label, metadata or principal of the wrong kind")
        return Example(
            id=example_id,
            label=packed_label if label is None else label,
            content=content,
            metadata=metadata,
            made_from=frozenset(made_from),
            principal=principal,
        )
    except (ValueError, TypeError, KeyError, msgpack.exceptions.ExtraData) as error:
        raise CorruptRecord(f"a stored record of {len(data)} bytes is no example: {error}") from error


def _content(kind: str, shape: list[int], values: bytes) -> np.ndarray | EncodedImage:
    if kind != _ENCODED:
        return np.frombuffer(values, _DTYPES[kind]).reshape(shape)
    height, width, channels = shape
    if not (isinstance(values, bytes) and all(isinstance(size, int) and size > 0 for size in shape)):
        raise TypeError("a stored image of the wrong kind")
    return EncodedImage(data=values, shape=(height, width, channels))
