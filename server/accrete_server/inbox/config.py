"""The inbox's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from accrete_model.input_spec import InputSpec

if TYPE_CHECKING:
    from accrete_storage.inbox import Places


@dataclass(frozen=True, kw_only=True)
class InboxConfig:
    """Which of the images that callers ask about are kept for a person to label."""

    enabled: bool = False
    """Keep images that the model is unsure of; off, no image is kept but what is taught. For models of images: vectors
    show a person nothing."""

    margin: Annotated[float, Ge(0), Le(1)] = 0.5
    """Distance of the two greatest probabilities below which an image is kept; 0: that is no reason. 0.5: the likeliest
    label has 0.75 at most."""

    unknown: bool = True
    """Keep what is called unknown, where the caller asks for that or `server.unknown_rate` is set."""

    provisional: bool = True
    """Keep what is answered with a class that no step has learned yet."""

    per_minute: Annotated[int, Ge(1), Le(600)] = 30
    """Images that one server keeps in a minute, which begins with the first of them. 30: a person labels as many."""

    places: Annotated[int, Ge(1), Le(10_000)] = 1000
    """Images that wait for a person; beyond it the least doubtful of whoever has most makes room. As many more stay
    that were labelled or skipped. At most 256 KiB each, in the store."""

    principal_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Part of the places and of the images a minute that one principal may take, at least one. Callers who are not
    asked for a name may take all."""

    days: Annotated[float, Gt(0), Le(365)] = 14.0
    """Days after which an image goes that nobody has labelled. What is labelled goes a day after that."""

    def check(self, spec: InputSpec) -> None:
        """Check that a model takes what the inbox keeps.

        Raises:
            ValueError: it is on, and the model takes vectors.
        """
        if self.enabled and not spec.is_image:
            raise ValueError(
                f"inbox.enabled = true: this model takes embeddings ({spec}), which show a person nothing; leave it off"
            )

    def places_of(self, principal: str) -> Places:
        """Return the places that there are for what a principal asks about."""
        from accrete_storage.inbox import Places  # brings the store, and settings are read where there is none

        share = self.principal_share if principal else 1.0
        return Places(all=self.places, one_principal=max(1, int(share * self.places)))

    def per_minute_of(self, principal: str) -> int:
        """Return how many images a minute may be a principal's."""
        return max(1, int(self.principal_share * self.per_minute)) if principal else self.per_minute
