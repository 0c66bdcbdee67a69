"""The address of a bucket: what is wrong with one, and how it is shown. It never has credentials."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("s3", "gs", "az", "file")


def check(url: str) -> None:
    """Raise ValueError for an address that cannot be used. The message shows nothing of it."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError("one that begins with s3://, gs://, az:// or file:/// is allowed")
    if not rest.isprintable() or (scheme != "file" and any(mark in rest for mark in "@?#")):
        raise ValueError(
            "a bucket and a prefix alone are allowed: credentials and endpoint come from the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and their like)"
        )
    host, _, path = rest.partition("/")
    if scheme == "file" and (host or not path):
        raise ValueError("a whole path is needed, as in file:///mnt/versions")
    if scheme != "file" and not host:
        raise ValueError(f"the bucket is missing, as in {scheme}://BUCKET/PREFIX")
    if any(part in ("", ".", "..") for part in path.rstrip("/").split("/")) and path.rstrip("/"):
        raise ValueError("each part of the prefix needs a name")


def shown(url: str) -> str:
    """Return the address without what may be a secret, put there by mistake."""
    if not url.isprintable():
        return "***"
    if url.startswith("file:///"):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else "***"
