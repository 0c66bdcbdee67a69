"""Names of all keys, under one hash tag, so that every script finds its keys on one node of a cluster."""

from dataclasses import dataclass

SCHEMA = "1"
"""Number of the form of what is stored under the keys; a store or a backup of another one is refused."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under one prefix."""

    prefix: str

    def _key(self, *parts: str) -> str:
        return ":".join((f"{{{self.prefix}}}", *parts))

    @property
    def beginning(self) -> str:
        """What all keys begin with."""
        return self._key("")

    @property
    def state(self) -> str:
        """Hash: active, pinned, latest, revision, renamed (the revision that the last renaming made), epoch, last_step,
        reserved, reserved_by, paused, phase, step_request, model, schema, identity, restored (name of the restore it
        comes from), features (the backbone that made them), controller (epoch of the one that runs the cluster)."""
        return self._key("state")

    @property
    def lease(self) -> str:
        """String with an expiry: "epoch owner" of the learner at work."""
        return self._key("lease")

    @property
    def cluster(self) -> str:
        """String with an expiry: "id place" of the cluster that runs on this prefix."""
        return self._key("cluster")

    @property
    def late(self) -> str:
        """String with an expiry: predictions take longer than they should, so training is to yield."""
        return self._key("late")

    @property
    def members(self) -> str:
        """Hash: id of a server that is a member to "until|worth|member (JSON)", see `members.lua`; and revision."""
        return self._key("members")

    @property
    def labels(self) -> str:
        """Set: labels with pending examples."""
        return self._key("labels")

    @property
    def generations(self) -> str:
        """Hash: label to how often it ceased to be a class. An id seen under an earlier generation counts as unseen
        where the class was forgotten, and as the other's where it was renamed or merged."""
        return self._key("generations")

    @property
    def renamed(self) -> str:
        """Hash: "generation|label" to "revision|generation|1 if merged|label", what that class is called since."""
        return self._key("renamed")

    @property
    def forgotten(self) -> str:
        """Hash: label to the revision at which it was last forgotten."""
        return self._key("forgotten")

    @property
    def totals(self) -> str:
        """Hash: examples and bytes pending; review_examples and review_bytes in review."""
        return self._key("pending_totals")

    @property
    def pending_bytes(self) -> str:
        """Hash: label to bytes pending."""
        return self._key("pending_bytes")

    @property
    def pending_holdout(self) -> str:
        """Hash: label to pending examples that are flagged for the hold-out."""
        return self._key("pending_holdout")

    @property
    def pending_owners(self) -> str:
        """Hash: label to bytes pending by principal (JSON)."""
        return self._key("pending_owners")

    @property
    def pending_principals(self) -> str:
        """Hash: principal to bytes pending."""
        return self._key("pending_principals")

    @property
    def counted(self) -> list[str]:
        """All that is counted of pending examples, in the order in which scripts expect it."""
        return [
            self.labels,
            self.totals,
            self.pending_bytes,
            self.pending_holdout,
            self.pending_owners,
            self.pending_principals,
        ]

    @property
    def kept(self) -> str:
        """Set: labels with exemplars, hold-out or features."""
        return self._key("kept")

    @property
    def exemplar_bytes(self) -> str:
        """Hash: label to bytes of its exemplars."""
        return self._key("exemplar_bytes")

    @property
    def versions(self) -> str:
        """Hash: number to record (JSON)."""
        return self._key("versions")

    @property
    def judgements(self) -> str:
        """Hash: number of a ready version to what it answered when it was judged, classes by their rows (JSON)."""
        return self._key("judgements")

    @property
    def quarantine(self) -> str:
        """Hash: label to why and at which count its pending examples went into quarantine (JSON)."""
        return self._key("holds")

    @property
    def events(self) -> str:
        """Stream: what the learner did; capped."""
        return self._key("events")

    def of_class(self, label: str) -> list[str]:
        """Return all keys of a label, in the order in which the script `rename` expects them."""
        places = (self.pending, self.exemplars, self.holdout, self.features, self.review_notes, self.review_records)
        return [place(label) for place in places]

    def pending(self, label: str) -> str:
        """Stream: fields e (record) and h (1: hold-out), then p (principal) if it has one, or is reviewed; r: it is."""
        return self._key("pending", label)

    def seen(self, example_id: str) -> str:
        """String with an expiry: "digest|position|generation|label", the label that it came under, unless its class was
        merged while it was pending; an r before the position: it is in review."""
        return self._key("seen", example_id)

    @property
    def review_labels(self) -> str:
        """Set: labels with examples in review."""
        return self._key("review_labels")

    def review_notes(self, label: str) -> str:
        """Hash: position that an example had among the pending to why it is in review (JSON)."""
        return self._key("review_notes", label)

    def review_records(self, label: str) -> str:
        """Hash: the same position to the example's record."""
        return self._key("review_records", label)

    @property
    def inbox_items(self) -> str:
        """Hash: id of an image in the inbox to what was answered about it (JSON)."""
        return self._key("inbox_items")

    @property
    def inbox_images(self) -> str:
        """Hash: the same id to the image's file."""
        return self._key("inbox_images")

    @property
    def inbox_features(self) -> str:
        """Hash: the same id to the image's feature (float16)."""
        return self._key("inbox_features")

    @property
    def inbox_marks(self) -> str:
        """Hash: the same id to "fingerprint|principal", the fingerprint in hexadecimal."""
        return self._key("inbox_marks")

    @property
    def inbox_open(self) -> str:
        """Sorted set: ids of those that nobody has labelled or skipped, by doubt."""
        return self._key("inbox_open")

    @property
    def inbox_decisions(self) -> str:
        """Hash: id of one that somebody has labelled or skipped to what was said (JSON)."""
        return self._key("inbox_decisions")

    @property
    def inbox_decided(self) -> str:
        """Sorted set: the same ids by the time of it, milliseconds since 1970."""
        return self._key("inbox_decided")

    @property
    def inbox(self) -> list[str]:
        """All of the inbox, in the order in which scripts expect it."""
        return [
            self.inbox_items,
            self.inbox_images,
            self.inbox_features,
            self.inbox_marks,
            self.inbox_open,
            self.inbox_decisions,
            self.inbox_decided,
        ]

    def quota(self, principal: str, what: str) -> str:
        """String with an expiry: how much of `what` a principal has used since the window began."""
        return self._key("quota", what, principal)

    def exemplars(self, label: str) -> str:
        """List: records in rank order."""
        return self._key("exemplars", label)

    def holdout(self, label: str) -> str:
        """List: records."""
        return self._key("holdout", label)

    def features(self, label: str) -> str:
        """Hash: id of an example to its feature (float16), of all that was learned by a closed form."""
        return self._key("features", label)

    def staged(self, step_id: str, kind: str, label: str) -> str:
        """List: what a step will put in the place of `kind`."""
        return self._key("staged", step_id, kind, label)

    def prototypes(self, version: int) -> str:
        """Hash: label to count and vector; the empty label to the margin of all."""
        return self._key("prototypes", str(version))
