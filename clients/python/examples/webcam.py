"""Name what a camera sees, and teach it new things while it looks.

Start a server (`accrete up`) and `pip install opencv-python`, then hold a cup before the camera and run

    python webcam.py --teach cup

and the same for other things. A new thing is recognised within a second, from the mean of its first examples (told as
"provisional"), and better once a training step has learned it:

    python webcam.py

Without OpenCV, give a folder of frames: `python webcam.py --source frames/`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from accrete import Client, ImageLike, NoModel


def frames(source: str) -> Iterator[ImageLike]:
    """Yield frames of a camera, by its number, or of a folder of images.

    A camera's frames are uint8 arrays [height, width, 3] in RGB.
    """
    if not source.isdecimal():
        yield from sorted(path for path in Path(source).iterdir() if path.is_file() and path.name[0] != ".")
        return
    import cv2

    camera = cv2.VideoCapture(int(source))
    try:
        while True:
            there, frame = camera.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        camera.release()


def teach(client: Client, label: str, images: Iterator[ImageLike]) -> None:
    """Teach frames under a label, each as soon as it is there."""
    stored = 0
    for result in client.stream_examples(((label, image) for image in images), batch_size=8):
        stored += result.outcome == "stored"
        print(f"\r{stored} frames of {label}", end="", flush=True)
    print()


def look(client: Client, images: Iterator[ImageLike]) -> None:
    """Print a line whenever something else is seen."""
    last = ""
    for image in images:
        try:
            seen = client.predict(image)
        except NoModel:
            print("nothing is known yet; begin with --teach")
            return
        if seen.label != last:
            last = seen.label
            provisional = ", provisional" if seen.provisional else ""
            print(f"{time.strftime('%H:%M:%S')}  {seen.label} ({seen.probability:.0%}{provisional})", flush=True)


def main() -> None:
    """Look, or teach."""
    parser = argparse.ArgumentParser(description="Name what a camera sees.")
    parser.add_argument("--source", default="0", help="number of a camera, or a folder of frames (default: 0)")
    parser.add_argument("--teach", metavar="LABEL", help="teach what is seen under this label")
    parser.add_argument("--frames", type=int, default=30, help="how many to teach (default: 30)")
    options = parser.parse_args()
    with Client() as client:
        if options.teach:
            teach(client, options.teach, itertools.islice(frames(options.source), options.frames))
        else:
            look(client, frames(options.source))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
