"""Small helpers that every process uses. Standard library alone."""
