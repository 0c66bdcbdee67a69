"""Structured logs with one line per event, its fields after its name."""

from __future__ import annotations

import json
import logging
import sys
import time

from accrete_node.settings import LogConfig

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def set_up(config: LogConfig, process: str) -> None:
    """Send this process's log to standard error, with the name `process` in every line."""
    as_text = config.format == "text" or (config.format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(process) if as_text else JsonFormatter(process))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _when(record: logging.LogRecord, pattern: str) -> str:
    return f"{time.strftime(pattern, time.localtime(record.created))}.{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON with time, level, process, logger, event, and the event's fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        head = {
            "time": _when(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps(head | _fields(record), default=str)


class TextFormatter(logging.Formatter):
    """Format a record as a line like `21:04:05.123 server info version.activated version=3`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line for people, which an error's traceback follows."""
        fields = _fields(record)
        error = fields.pop("error", None)
        pairs = " ".join(f"{name}={json.dumps(value, default=str)}" for name, value in fields.items())
        head = f"{_when(record, '%H:%M:%S')} {self._process:<8} {record.levelname.lower():<7} {record.getMessage()}"
        return f"{head} {pairs}".rstrip() + (f"\n{error}" if error else "")
