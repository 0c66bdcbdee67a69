"""Teach labelled images from a Redis stream, each of them once, however often this program is killed.

Start a server (`accrete up`) and a Redis or Valkey for the queue, `pip install redis`, then run

    python redis_stream.py redis://localhost:6379

and let producers add entries with an encoded image and its label:

    redis.xadd("examples", {"label": "heron", "image": jpeg_bytes})

An entry is acknowledged to the queue when Accrete has acknowledged its example, so nothing is lost; the entry's id is
the example's id, so what is delivered twice is learned once. An image that Accrete refuses goes to a stream of its own,
with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import redis

from accrete import Client, Example

STREAM, GROUP, REFUSED = "examples", "accrete", "examples:refused"


def consume(queue: redis.Redis, client: Client, consumer: str, *, until_empty: bool) -> None:
    """Teach entry after entry: first those that this consumer was given before, then new ones."""
    try:
        queue.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):  # it is there already
            raise
    position = "0"
    while True:
        answer: Any = queue.xreadgroup(GROUP, consumer, {STREAM: position}, count=64, block=1000)
        entries = answer[0][1] if answer else []
        if entries:
            print(f"{teach(queue, client, entries)} of {len(entries)} stored", flush=True)
        elif position == "0":
            position = ">"  # from here on, what nobody was given yet
        elif until_empty:
            return


def teach(queue: redis.Redis, client: Client, entries: list[tuple[bytes, dict[Any, Any]]]) -> int:
    """Teach some entries, acknowledge them, and return how many are stored now."""
    examples = [
        Example(fields.get(b"label", b"").decode(errors="replace"), fields.get(b"image", b""), entry.decode())
        for entry, fields in entries
    ]
    report = client.add_examples(examples)
    for refused in report.refused:
        queue.xadd(REFUSED, {**entries[refused.index][1], "reason": refused.reason})
    queue.xack(STREAM, GROUP, *(entry for entry, _ in entries))
    return report.stored


def main() -> None:
    """Consume until interrupted."""
    parser = argparse.ArgumentParser(description="Teach labelled images from a Redis stream.")
    parser.add_argument("url", help="of the Redis that has the stream, such as redis://localhost:6379")
    parser.add_argument("--consumer", default="consumer-1", help="another name for each process of several")
    parser.add_argument("--until-empty", action="store_true", help="end when the stream has nothing new")
    options = parser.parse_args()
    with redis.Redis.from_url(options.url, protocol=2) as queue, Client() as client:
        consume(queue, client, options.consumer, until_empty=options.until_empty)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
