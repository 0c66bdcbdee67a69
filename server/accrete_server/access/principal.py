"""Who makes the call that the current thread works on. The interceptor finds out once; handlers read it."""

from __future__ import annotations

from contextvars import ContextVar

from accrete_server.access.tokens import Principal

CALLER: ContextVar[Principal] = ContextVar("caller")
"""Set by the interceptor before each handler. Without a default: read elsewhere, it raises LookupError."""
