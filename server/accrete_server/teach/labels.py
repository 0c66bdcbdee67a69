"""Which labels, ids and metadata are accepted. What is not fit is refused, never altered."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from accrete_server.errors import InvalidInput, LimitExceeded, Unknown
from accrete_server.teach.invisible import first_invisible, named
from accrete_storage.errors import NotFound

MAX_ID_CHARS = 128
MAX_METADATA_ENTRIES = 16
MAX_METADATA_BYTES = 1024

_UNPRINTABLE = frozenset(
    {"Cc", "Zl", "Zp"}
)  # controls, line and paragraph separators: they would break logs and terminals


def check_label(label: str, max_bytes: int) -> None:
    """Check that a label is 1 to `max_bytes` bytes of NFC text, all of which shows, without blanks at its ends.

    Two spellings that look alike must not become two classes: hence NFC, no blanks at the ends, and no character that
    does not show.

    Raises:
        InvalidInput: it is not.
    """
    if not label.strip():
        raise InvalidInput("label: empty")
    size = len(label.encode())
    if size > max_bytes:
        raise InvalidInput(f"label: {size} bytes of UTF-8; max_label_bytes is {max_bytes}")
    if has_control(label):
        control = next(character for character in label if has_control(character))
        raise InvalidInput(f"label: holds a control character or line break ({named(control)})")
    if label != label.strip():
        raise InvalidInput("label: starts or ends with a blank")
    if not unicodedata.is_normalized("NFC", label):
        raise InvalidInput(
            f"label: not in Unicode normal form C (NFC), because of {named(_decomposed(label))}; "
            "normalise it before sending"
        )
    invisible = first_invisible(label)
    if invisible is not None:
        raise InvalidInput(
            f"label: holds {named(invisible)}, which does not show, so that two labels would look like one; "
            "take it out or put a plain space before sending"
        )


@contextmanager
def known_or_checked(max_bytes: int, *labels: str) -> Iterator[None]:
    """Check labels only where the block finds no such class: what an earlier release let in can be mended, and goes.

    Raises:
        InvalidInput: there is no such class, nor can there be.
    """
    try:
        yield
    except (NotFound, Unknown):
        for label in labels:
            check_label(label, max_bytes)
        raise


def _decomposed(label: str) -> str:
    """Return the first character that normalisation changes."""
    composed = unicodedata.normalize("NFC", label)
    at = next((index for index, pair in enumerate(zip(label, composed, strict=False)) if pair[0] != pair[1]), -1)
    following = label[at + 1 : at + 2]
    return following if following and unicodedata.combining(following) else label[at]


def check_id(example_id: str) -> None:
    """Check that an id has 1 to 128 characters and no control character.

    Raises:
        InvalidInput: it has not.
    """
    if not 1 <= len(example_id) <= MAX_ID_CHARS:
        raise InvalidInput(f"id: {len(example_id)} characters; 1 to {MAX_ID_CHARS} are allowed")
    if has_control(example_id):
        raise InvalidInput("id: holds a control character or line break")


def check_ids(ids: Sequence[str], limit: int) -> list[str]:
    """Return the ids that a call names, each once.

    Raises:
        InvalidInput: there are none.
        LimitExceeded: there are more than `limit`.
    """
    if not ids:
        raise InvalidInput("ids: empty; at least one id is needed")
    if len(ids) > limit:
        raise LimitExceeded("max_ids", limit, f"{len(ids)} ids in one call")
    return list(dict.fromkeys(ids))


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Check that there are at most 16 entries, and at most 1 KiB of keys and values together.

    Raises:
        InvalidInput: there is more.
    """
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise InvalidInput(f"metadata: {len(metadata)} entries; at most {MAX_METADATA_ENTRIES} are allowed")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise InvalidInput(f"metadata: {size} bytes; at most {MAX_METADATA_BYTES} are allowed")


def has_control(text: str) -> bool:
    """Return whether a text holds a control character, line separator or paragraph separator."""
    if text.isascii() and text.isprintable():
        return False
    return any(unicodedata.category(character) in _UNPRINTABLE for character in text)
