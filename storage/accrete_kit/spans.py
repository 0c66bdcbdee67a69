"""Spans of time in words."""


def in_words(seconds: float) -> str:
    """Return a span for people: "40 s", "12 minutes", "3.4 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
