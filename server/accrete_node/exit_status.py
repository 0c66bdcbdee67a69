"""Exit status of the node's commands and processes, besides 0."""

CANNOT_START = 2
"""The settings or the data cannot be used, so that starting again would not help."""
