"""Small helpers that every process uses. Standard library alone."""

from accrete_kit.dependencies import limit_threads, silence

silence()
limit_threads()
