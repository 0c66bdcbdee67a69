"""A line that is rewritten in place on a terminal, and printed once for each stage elsewhere."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Self, TextIO

_TO_BEGIN = "\r\x1b[K"  # to the line's begin, and clear it (ECMA-48, EL)


class MovingLine:
    """Shows how far something is; what it shows on a terminal is gone at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._moves = stream.isatty()
        self._stage: object = None
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, text: str, stage: object) -> None:
        """Show a text in place of the last one; where lines do not move, only the first of each stage."""
        if self._moves:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(_TO_BEGIN + (text if len(text) <= width else f"{text[: width - 3]}..."))
            self._stream.flush()
            self._shown = True
        elif stage != self._stage:
            print(text, file=self._stream, flush=True)
        self._stage = stage

    def clear(self) -> None:
        """Make room for a line that stays."""
        if self._shown:
            self._stream.write(_TO_BEGIN)
            self._stream.flush()
            self._shown = False
