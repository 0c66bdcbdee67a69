"""What is said of a port that cannot be listened on."""


def metrics_cannot_listen(host: str, port: int, error: OSError, *, setting: str) -> OSError:
    """Return the error to raise when `/metrics` cannot listen, which names the setting to change."""
    return OSError(f"/metrics cannot listen on {host}:{port}: {error.strerror}; change {setting}")
