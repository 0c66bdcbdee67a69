"""What a server must be for our guarantees, checked when we connect; its settings with every new connection."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import redis

from accrete_storage.config import StoreConfig
from accrete_storage.errors import StoreMisconfigured
from accrete_storage.redis.database import SETTINGS, Database, reachable, read_settings, wrong_server
from accrete_storage.redis.keys import Keys

MINIMUM = (7, 0)


def version_tuple(text: str) -> tuple[int, ...]:
    """Return "7.0.15" as (7, 0, 15), up to the first part that is no number."""
    parts = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def check_server(info: Mapping[str, Any]) -> None:
    """Check the reply to INFO.

    Raises:
        StoreMisconfigured: for a server older than Redis 7.0, a replica, or Sentinel itself.
    """
    if info.get("redis_mode") == "sentinel":
        raise StoreMisconfigured("that is Sentinel and no store: write redis+sentinel://HOST:PORT/SERVICE")
    found = str(info.get("redis_version", "0"))
    if version_tuple(found) < MINIMUM:
        raise StoreMisconfigured(f"the store is Redis {found}; Redis 7.0 or newer, or Valkey, is needed")
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        raise StoreMisconfigured(f"the store is a replica and takes no writes: set store.url to its primary {primary}")


def check_settings(settings: Mapping[str, str], *, ack: str) -> None:
    """Check the reply to CONFIG GET for what `ack` promises, see `StoreConfig.ack`.

    Only `appendfsync always` counts as on disk. With `everysec`, WAITAOF returns before the sync in every Valkey up to
    9.1.2 (measured) and in Redis from 7.4 on until pull request 13793.

    Raises:
        StoreMisconfigured: naming the setting that is wrong and what to set it to.
    """
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        raise StoreMisconfigured(
            f"the store's maxmemory-policy is {policy}, which evicts examples: set it to noeviction"
        )
    append_only = settings.get("appendonly") == "yes"
    if ack == "memory":
        if not append_only and not settings.get("save"):
            raise StoreMisconfigured("the store does not persist: set appendonly to yes (or save to an interval)")
        return
    if not append_only:
        raise StoreMisconfigured("the store's appendonly is no, so nothing acknowledged would last: set it to yes")
    fsync = settings.get("appendfsync", "unknown")
    if fsync != "always":
        raise StoreMisconfigured(
            f"the store's appendfsync is {fsync}, so it answers before data is on disk: set appendfsync to always, or "
            'accept the loss of the last seconds with store.ack = "memory"'
        )
    if settings.get("no-appendfsync-on-rewrite") == "yes":
        raise StoreMisconfigured(
            "the store's no-appendfsync-on-rewrite is yes, so it answers before data is on disk while it rewrites its "
            "append-only file: set it to no"
        )


def check(database: Database, config: StoreConfig) -> None:
    """Check the server behind `database`, and have the settings checked with every later connection.

    Raises:
        StoreUnavailable: it does not answer.
        StoreMisconfigured: it cannot keep what is promised.
    """
    guard = partial(check_settings, ack=config.ack)
    with reachable():
        try:
            check_server(database.client.info())
        except redis.RedisError as error:
            if reason := wrong_server(error):  # later on it may be the address that changes hands, and is waited for
                raise StoreMisconfigured(reason) from error
            raise
        database.client.exists(Keys(config.prefix).state)  # a cluster's node says whether it is the one that has it
        try:
            settings = read_settings(database.client.config_get(*SETTINGS))
        except redis.ResponseError as error:
            raise StoreMisconfigured(
                f"the store refuses CONFIG GET, so its settings cannot be checked; allow it to the url's user: {error}"
            ) from error
    guard(settings)
    database.guard = guard
