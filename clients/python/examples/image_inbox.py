"""Sort the images that arrive in a folder, and ask about those that the model is unsure of.

Start a server (`accrete up`), then run

    python image_inbox.py inbox/ sorted/

and drop images into inbox/. One that the model is sure of is moved to sorted/LABEL/. For any other you are asked, and
your answer is taught, so that you are asked less and less. Press Enter to accept a guess.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from accrete import Client, NoModel

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def guess(client: Client, image: Path, enough: float) -> tuple[str, bool, str]:
    """Return the most probable label ("" for none), whether nobody need be asked, and what to tell about it."""
    try:
        found = client.predict(image, unknown_rate=0.05)
    except NoModel:  # nothing has been taught yet
        return "", False, ""
    if found.unknown:
        return "", False, f" (like nothing that is known; nearest is {found.label})"
    return found.label, found.doubt(enough) is None, f" [{found.label}, {found.probability:.0%}]"


def sort_one(client: Client, image: Path, target: Path, enough: float) -> None:
    """Move an image to the folder of its label, which the model or the user says."""
    label, sure, told = guess(client, image, enough)
    if not sure:
        label = input(f"What is {image.name}{told}? ").strip() or label
        if not label:
            return  # it is asked about again in the next round
        report = client.add_examples([(label, image)])
        for refused in report.refused:
            print(f"{image.name} is not taught: {refused.reason}")
    folder = target / label
    folder.mkdir(parents=True, exist_ok=True)
    image.rename(folder / image.name)
    print(f"{image.name} -> {folder}")


def main() -> None:
    """Sort what is in the inbox, and what comes."""
    parser = argparse.ArgumentParser(description="Sort images, and ask about those that the model is unsure of.")
    parser.add_argument("inbox", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--sure", type=float, default=0.8, help="probability that is not asked about (default: 0.8)")
    parser.add_argument("--once", action="store_true", help="end when the inbox is empty")
    options = parser.parse_args()
    with Client() as client:
        while True:
            images = sorted(path for path in options.inbox.iterdir() if path.suffix.lower() in SUFFIXES)
            for image in images:
                sort_one(client, image, options.target, options.sure)
            if options.once and not images:
                return
            time.sleep(0.2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
