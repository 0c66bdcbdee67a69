"""The objects below one prefix of a bucket, by obstore, whose errors become sentences that name the setting."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from accrete_kit.atomic_file import sync
from accrete_model import bucket_address
from accrete_model.errors import BucketRefused, BucketUnavailable, CorruptArtifact

T = TypeVar("T")

_CONNECT_S = 3
_SMALL_S = 10
"""Seconds that a request for a listing or a manifest may take. What hangs is found out by one of these, as a rule."""
_LARGE_S = 60
"""Seconds that a request may take in which 8 MiB of a file are read or written, however large that is."""
_RETRIES = 2
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_PART_BYTES = 8 * 2**20
_SECRETS = re.compile(r"SECRET|KEY|TOKEN|PASSW|CREDENTIAL|SAS", re.IGNORECASE)
_PASSING = re.compile(r"^Generic \w+ error: | in [\d.]+\w*s\b|, after \d+ retries.*?retry_timeout: \w+ ", re.UNICODE)
"""What of an error's text is another each time, or tells nobody anything."""
_NO_RANGES = "non-partial response"
"""Of an error where a server sends all of an object, whatever part is asked for."""
_ACCOUNT = re.compile(r"//[^/\s@]*@")
"""Name and password in an address, as an endpoint or a proxy may have them."""
_LONGEST_REASON = 300
_CERTIFICATE = re.compile(r"InvalidCertificate\((?:\s*\w+\()*\s*(\w+)")
_OF_SYSTEM = re.compile(r'message: "([^"]{1,80})"|failed to lookup address information: ([^"]{1,80})"')
"""What the operating system says in the details of an error."""
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = "there is no such bucket"
_REGION = "the bucket is in another region than the environment says (AWS_REGION)"
_EXPIRED = (
    "the credentials of the environment have expired (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN): "
    "start again with new ones"
)
_SAID = {
    "RequestTimeTooSkewed": "this machine's clock and the bucket's are too far apart: set it right (NTP)",
    "RequestExpired": "this machine's clock and the bucket's are too far apart: set it right (NTP)",
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": "the credentials of the environment are wrong (AWS_SESSION_TOKEN)",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "NoSuchBucket": _NO_BUCKET,
}
"""What a name that S3 gives a reason means to who set the bucket up."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object of a listing."""

    key: str
    bytes: int
    changed: datetime
    """By the clock of the bucket's servers."""


class Objects:
    """Small operations on a bucket. Any of them raises BucketUnavailable where it cannot be used. For any thread."""

    def __init__(self, url: str) -> None:
        """Use the bucket and prefix of an address that `bucket_address.check` has passed, without reaching for it."""
        self._url = url
        self._buckets: dict[int, Any] = {}
        """Clients by the seconds that a request of them may take."""

    @property
    def setting(self) -> str:
        """The setting and its value, for messages."""
        return f"artifacts.url = {bucket_address.shown(self._url)!r}"

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, from memory or of a file. What has that key is replaced."""
        self._do(
            "cannot be written", lambda bucket: obstore.put(bucket, key, content, chunk_size=_PART_BYTES), _LARGE_S
        )
        if self._url.startswith("file:"):  # the others keep what they have acknowledged
            try:
                path = Path(self._url.removeprefix("file://")) / key
                sync(path)
                sync(path.parent)
            except OSError as error:
                raise BucketUnavailable(f"{self.setting}: cannot be written: {error.strerror}") from error

    def get(self, key: str) -> bytes | None:
        """Return an object; None where there is none."""

        def read(bucket: Any) -> bytes | None:
            try:
                return bytes(obstore.get(bucket, key).bytes())
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

        return self._do("cannot be read", read)

    def get_large(self, key: str) -> bytes | None:
        """Return an object that may be large; None where there is none."""

        def read(bucket: Any) -> bytes | None:
            try:
                return b"".join(_pieces(bucket, key)[1])
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

        return self._do("cannot be read", read, _LARGE_S)

    def download(self, key: str, to: Path, *, sha256: str, length: int) -> None:
        """Write an object into a file, no more of it than it should have.

        Raises:
            CorruptArtifact: it is missing, or another than was put there; the message names it.
        """

        def read(bucket: Any) -> str:
            digest = hashlib.sha256()
            try:
                size, pieces = _pieces(bucket, key)
                if size != length:
                    return f"has {size} bytes, not {length}"
                with to.open("wb") as file:
                    for piece in pieces:
                        digest.update(piece)
                        file.write(piece)
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return "is missing"
            return "" if digest.hexdigest() == sha256 else "does not match its checksum"

        if wrong := self._do("cannot be read", read, _LARGE_S):
            raise CorruptArtifact(f"{key} in the bucket {wrong}")

    def list(self, below: str) -> list[Found]:
        """Return the objects whose key begins with the folder `below`, or all with ""."""

        def read(bucket: Any) -> list[Found]:
            return [
                Found(key=one["path"], bytes=one["size"], changed=one["last_modified"])
                for some in obstore.list(bucket, below or None)
                for one in some
            ]

        return self._do("cannot be listed", read)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, the first of them before the others; one that is not there is none the less removed."""
        first, *rest = keys
        self._do("cannot be deleted from", partial(_delete, [first]))
        if rest:
            self._do("cannot be deleted from", partial(_delete, rest))

    def _do(self, what: str, work: Callable[[Any], T], seconds: int | None = None) -> T:
        try:
            seconds = seconds or _SMALL_S
            if seconds not in self._buckets:
                self._buckets[seconds] = _connect(self._url, seconds)
            return work(self._buckets[seconds])
        except (BaseError, OSError, ValueError) as error:
            kind, reason = _reason(error)
            raise kind(f"{self.setting}: {what}: {reason}") from None  # the error itself may have more than we show


def _pieces(bucket: Any, key: str) -> tuple[int, Iterator[bytes]]:
    """Return the bytes that an object has, and them piece by piece: in one request, many would outlast its time."""
    whole = obstore.get(bucket, key)
    size: int = whole.meta["size"]
    if size <= _PART_BYTES:
        return size, iter([bytes(whole.bytes())])
    return size, _ranges(bucket, key, size)


def _ranges(bucket: Any, key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _PART_BYTES):
        try:
            yield bytes(obstore.get_range(bucket, key, start=start, length=min(_PART_BYTES, size - start)))
        except BaseError as error:
            if _NO_RANGES not in str(error) or start:
                raise
            for part in obstore.get(bucket, key).stream(min_chunk_size=_PART_BYTES):
                yield bytes(part)
            return


def _delete(keys: Sequence[str], bucket: Any) -> None:
    if isinstance(bucket, LocalStore):  # it stops at one that is not there, and the others do not
        for key in keys:
            with suppress(FileNotFoundError):
                obstore.delete(bucket, key)
    else:
        obstore.delete(bucket, keys)


def _connect(url: str, seconds: int) -> Any:
    if url.startswith("file:"):  # a path as it stands: in an address, %20 or a backslash would mean something else
        return LocalStore(Path(url.removeprefix("file://")), automatic_cleanup=True)
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return from_url(
        url,
        client_options={
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=seconds),
            "allow_http": plain,
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def _reason(error: Exception) -> tuple[type[BucketUnavailable], str]:
    """Return what an error comes to, in one line without any secret of the environment."""
    if isinstance(error, OSError) and error.strerror:
        return BucketUnavailable, error.strerror
    text, code = str(error).partition("\n")[0].partition("<?xml")[0], _code(error)
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        return BucketRefused, (
            "no credentials are in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for one), and this "
            "machine has none of its own"
        )
    if code in _SAID:
        return BucketRefused, _SAID[code]
    if "incorrectly configured region" in text:  # a redirect to another one
        return BucketRefused, _REGION
    denied = type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
    if denied or re.search(r"\b40[13] (?:Forbidden|Unauthorized)", text):
        return BucketRefused, (
            "it is refused: the credentials of the environment are wrong or have expired, or lack the right to list, "
            "read, write and delete below the prefix"
        )
    if re.search(r"\b404 Not Found", text):
        return BucketRefused, _NO_BUCKET
    if re.search("Account must be specified|MissingAccount", text):
        return BucketRefused, "the environment names no account (AZURE_STORAGE_ACCOUNT_NAME)"
    if "error sending request" in text:
        beneath = str(error).partition("\n\nDebug")[2]
        if found := _CERTIFICATE.search(beneath):
            return BucketRefused, f"the certificate of its server is not accepted ({found[1]})"
        if "InvalidContentType" in beneath:
            return BucketRefused, "what answers does not encrypt: write http:// for https:// (AWS_ENDPOINT_URL)"
        if found := _OF_SYSTEM.search(beneath):
            text += f": {found[1] or found[2]}"
    text = _PASSING.sub("", text).strip(" :-") + (f" ({code})" if code else "")
    return BucketUnavailable, _without_secrets(text, os.environ)[:_LONGEST_REASON]


def _code(error: Exception) -> str:
    """Return by what name S3 says why; "" where it does not."""
    found = _CODE.search(str(error).partition("\n\nDebug")[0])
    return found[1] if found else ""


def _without_secrets(text: str, environment: Mapping[str, str]) -> str:
    text = _ACCOUNT.sub("//***@", text)
    for name, value in environment.items():
        if len(value) > 3 and _SECRETS.search(name):
            text = text.replace(value, "***")
    return text
