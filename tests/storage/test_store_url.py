"""The address of a store, and that no message shows any part of a password, well written or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from accrete_storage import store_url
from accrete_storage.config import StoreConfig

WHOLE = {
    "redis://:sekret@h:1/0": "redis://***@h:1/0",
    "redis://user:se@kret@h:1": "redis://***@h:1",
    "rediss://:se%2Fkret@h": "rediss://***@h",
    "redis://h:6379/0": "redis://h:6379/0",
    "redis://h?password=sekret": "redis://h",
    "redis://[::1]:6379": "redis://[::1]:6379",
    "unix:///a b/%23.sock?db=1": "unix:///a b/%23.sock",
    "unix://user:sekret@/x/y.sock": "unix://***@/x/y.sock",
    "redis+sentinel://user:se%2Fkret@a,b:1/shop/2": "redis+sentinel://***@a,b:1/shop/2",
    "rediss+sentinel://a/shop?sentinel_password=sekret&ssl_ca_certs=/x": "rediss+sentinel://a/shop",
    "rediss+sentinel://:sekret@a/shop?sentinel_password=sekret": "rediss+sentinel://***@a/shop",
}
MISREAD = ["redis://:se/kret@h", "redis://:se#kret@h", "redis://:se?kret@h:3", "redis://:12/sekret@h"]
MISREAD += ["redis://:se[kret@h", "redis://h?password=se@kret", "unix://:se/kret@/x.sock", "redis://:1?se@kret@h"]
MISREAD += ["redis+sentinel://:se/kret@h/shop", "redis+sentinel://:se@kret@h:1/shop/x"]
MISREAD += ["redis+sentinel://h/shop?sentinel_password=se@kret", "redis+sentinel://h/shop?password=sekret"]


@pytest.mark.parametrize("url", WHOLE)
def test_an_address_is_shown_without_its_secrets(url: str):
    assert StoreConfig(url=url).url == url
    assert store_url.shown(url) == WHOLE[url]
    assert store_url.shown(f"url = {url!r}").startswith(f"url = '{WHOLE[url]}")
    assert "sekret" not in repr(StoreConfig(url=url))


@pytest.mark.parametrize("url", MISREAD)
def test_a_password_that_is_not_encoded_is_refused_and_no_part_of_it_shown(url: str):
    with pytest.raises(ValueError, match="%2F") as refused:
        StoreConfig(url=url)
    told = str(refused.value).partition(";")[0]
    for word in ("password", "database", "sentinel"):
        told = told.replace(word, "")
    assert "se" not in told
    assert "kret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ["http://h", "h:6379", "redis:/h", "redis://h:99999", "redis://h\n:1"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValueError, match=r"^url = "):
        StoreConfig(url=url)


@pytest.mark.parametrize("path", ["/a#b", "/a?b", "/a%20b", "/a\tb", '/a"b', "/a\\b", "/a\nb", "/früh", "/a@b:c"])
def test_any_path_of_a_socket_makes_an_address(path: str):
    url = store_url.socket_url(Path(path))
    store_url.check(url)
    assert redis.Redis.from_url(url).connection_pool.connection_kwargs["path"] == path


def test_sentinels_are_read_from_an_address():
    found = store_url.sentinels("redis+sentinel://me:se%2Fkret@one,two:1,[::1]:2/my%20shop/3")
    assert found is not None
    assert found.sentinels == (("one", 26379), ("two", 1), ("::1", 2))
    assert (found.service, found.database, found.username, found.password) == ("my shop", 3, "me", "se/kret")
    assert "kret" not in repr(found)
    assert (found.sentinel_username, found.sentinel_password, found.tls) == (None, None, None)
    found = store_url.sentinels("rediss+sentinel://h/s?sentinel_username=me&sentinel_password=se%26kret&ssl_keyfile=/k")
    assert found is not None
    assert (found.sentinel_username, found.sentinel_password, found.tls) == ("me", "se&kret", {"ssl_keyfile": "/k"})
    assert "kret" not in repr(found)
    assert store_url.sentinels("redis://h:1") is None
    for url in (
        "redis+sentinel://h/s?ssl_ca_certs=/x",
        "redis+sentinel://h/s?db=1",
        "redis+sentinel://h:1",
        "redis+sentinel://h:1/",
        "redis+sentinel:///shop",
        "redis+sentinel://h/s/x",
    ):
        with pytest.raises(ValueError, match="SERVICE"):
            store_url.check(url)
