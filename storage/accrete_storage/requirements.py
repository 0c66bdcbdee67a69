"""What a server must be for our promises to hold; checked when we connect."""

from typing import Any

import redis

from accrete_storage.config import StoreConfig
from accrete_storage.database import Database, reachable
from accrete_storage.errors import StoreMisconfigured

MINIMUM = (7, 0)


def version_tuple(text: str) -> tuple[int, ...]:
    """ "7.0.15" as (7, 0, 15); what is no number ends it."""
    parts = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def check_version(info: dict[str, Any]) -> None:
    """Raises StoreMisconfigured for a server older than Redis 7.0 (`info` is what INFO answers)."""
    found = str(info.get("redis_version", "0"))
    if version_tuple(found) < MINIMUM:
        raise StoreMisconfigured(f"the store is Redis {found}; Redis 7.0 or newer, or Valkey, is needed")


def check_settings(settings: dict[str, str], config: StoreConfig, *, can_wait: bool) -> bool:
    """Whether writes must wait for the disk by WAITAOF; `settings` is what CONFIG GET answers.

    Raises StoreMisconfigured naming the setting that is wrong and what to set it to.
    """
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        raise StoreMisconfigured(
            f"the store's maxmemory-policy is {policy}, which evicts examples: set it to noeviction"
        )
    append_only = settings.get("appendonly") == "yes"
    if config.ack == "memory":
        if not append_only and not settings.get("save"):
            raise StoreMisconfigured("the store does not persist: set appendonly to yes (or save to an interval)")
        return False
    if not append_only:
        raise StoreMisconfigured("the store's appendonly is no, so nothing acknowledged would last: set it to yes")
    fsync = settings.get("appendfsync", "")
    if fsync == "always":
        return False
    if not can_wait:
        raise StoreMisconfigured(
            f"the store's appendfsync is {fsync} and it has no WAITAOF (Redis 7.2, Valkey): set appendfsync to always, "
            'or accept the loss of the last second with store.ack = "memory"'
        )
    return True


def check(database: Database, config: StoreConfig) -> dict[str, Any]:
    """Check the server behind `database` and set how it waits; answers INFO.

    Raises StoreUnavailable when it does not answer, StoreMisconfigured when it cannot keep what is promised.
    """
    with reachable():
        info: dict[str, Any] = database.client.info()
        check_version(info)
        try:
            raw = database.client.config_get("maxmemory-policy", "appendonly", "appendfsync", "save")
        except redis.ResponseError as error:
            raise StoreMisconfigured(f"the store refuses CONFIG GET, so its settings are unknown: {error}") from error
        settings = {_text(name): _text(value) for name, value in raw.items()}
        can_wait = _can_wait(database)
    database.wait_for_fsync = check_settings(settings, config, can_wait=can_wait)
    return info


def _can_wait(database: Database) -> bool:
    try:
        database.client.execute_command("WAITAOF", 0, 0, 1)
    except redis.ResponseError:
        return False
    return True


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
