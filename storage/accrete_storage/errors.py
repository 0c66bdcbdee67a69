"""What can go wrong in the store.

StorageError
├── StoreUnavailable        the server does not answer; whether a write happened is unknown
├── StoreMisconfigured      it answers, but cannot keep what we promise; says what to set
│   └── EngineMismatch      the data directory was written by another engine or a newer version of it
├── DataDirInUse            another process serves this data directory
├── PendingFull             all pending examples would be too many; nothing was stored
├── QuotaExceeded           a principal's share of something is used up; nothing was stored
├── NotFound                no such version, label or id
├── LabelInUse              a class has the label that another was to get
├── VersionUnusable         the version was rejected, or its files are gone
├── Fenced                  another learner holds the lease, or another controller runs; nothing was written
├── InputsChanged           examples of the step were deleted or renamed while it ran; nothing was written
├── BackupUnusable          a backup cannot be written there, or is not whole
└── CorruptRecord           bytes in the store that are no example
"""


class StorageError(Exception):
    """Base of all errors of this package."""


class StoreUnavailable(StorageError):
    """The server does not answer; whether a write happened is unknown."""


class StoreMisconfigured(StorageError):
    """The server answers but cannot keep what is promised; the message says what to set."""


class EngineMismatch(StoreMisconfigured):
    """The data directory was written by another engine, or by a newer version of this one."""


class DataDirInUse(StorageError):
    """Another process serves this data directory."""


class PendingFull(StorageError):
    """All pending examples would be too many; nothing was stored."""

    def __init__(self, limit: str, value: int, retry_after_s: float) -> None:
        """Say what is full.

        Args:
            limit: name of the setting.
            value: what it is set to.
            retry_after_s: seconds after which there is likely to be room.
        """
        super().__init__(f"{limit} = {value} would be exceeded; the learner makes room with its next step")
        self.limit = limit
        self.value = value
        self.retry_after_s = retry_after_s


class QuotaExceeded(StorageError):
    """A principal's quota is used up; nothing was stored."""

    def __init__(self, limit: str, value: int, retry_after_s: float | None) -> None:
        """Say which quota.

        Args:
            limit: name of the setting.
            value: what it is set to.
            retry_after_s: seconds after which there is room; None when that much at once never fits.
        """
        super().__init__(f"{limit} = {value} would be exceeded")
        self.limit = limit
        self.value = value
        self.retry_after_s = retry_after_s


class NotFound(StorageError):
    """No such version, label or id."""

    def __init__(self, kind: str, name: str, instead: str = "") -> None:
        """Say that there is no `kind`, as in "version", "label" or "id", called `name`, and what there is `instead`."""
        super().__init__(f"no such {kind}: {name}{f'; {instead}' if instead else ''}")
        self.kind = kind
        self.name = name


class LabelInUse(StorageError):
    """A class has the label that another one was to get; nothing was written."""


class VersionUnusable(StorageError):
    """The version was rejected by the gate, or its files are gone."""


class Fenced(StorageError):
    """Another learner has taken the lease, or another controller the cluster; nothing was written."""


class InputsChanged(StorageError):
    """Examples were deleted, or a class forgotten or renamed, since the step read its inputs; nothing was written."""


class BackupUnusable(StorageError):
    """A backup cannot be written where it was asked for, is not whole, or there is something in the way of it."""


class CorruptRecord(StorageError):
    """Bytes in the store that are no example."""
