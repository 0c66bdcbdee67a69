"""Makes the pictures of the page: teaches a node photographs, asks it about others, and looks at it in a browser.

    python docs/images/page.py PHOTOS

PHOTOS is a folder per thing, or such trees `train` and `test`. Needs the extra `test` and Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from accrete import Client
from accrete_experiments.demo.data import folder
from benchmarks.node import default_node, side_by_side
from benchmarks.waiting import free_port, until

HERE = Path(__file__).parent
STEPS = "Banana,Avocado,Kiwi;Orange,Satsumas;Red-Delicious,Royal-Gala,Pink-Lady;Lemon,Lime;Anjou,Conference"
_TAUGHT = 8
"""Photographs of each thing: few, so that the model is unsure of some."""
_LABELLED = 6
_COLOURS, _OWN_COLOURS = (240, 160, 120, 90, 72), 48
_MOST_BYTES = 150_000
_PAUSE_S = 0.05
_SHOW_IMAGES = "how => document.querySelectorAll('img').forEach(image => image.style.setProperty('visibility', how))"
_WAIT_S = 600
_SIZE: ViewportSize = {"width": 1200, "height": 750}


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--steps", default=STEPS, help="things in the order of their coming; steps by ;")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures (default: beside this file)")
    options = parser.parse_args()
    settings = {
        "page.enabled": "true",
        "page.port": "0",
        "inbox.enabled": "true",
        "inbox.per_minute": "600",
        "server.metrics_port": str(free_port()),
    }
    with tempfile.TemporaryDirectory() as name, default_node(Path(name) / "shop", settings) as address:
        data_dir = Path(name) / "shop"
        with Client(address, timeout=_WAIT_S) as client:
            client.wait_ready(_WAIT_S)
            _teach(client, options.photographs, [step.split(",") for step in options.steps.split(";")])
            page = until(lambda: _address(data_dir), "the page")
            doubtful = _asked(client, options.photographs)
            _look(page, options.out, doubtful, client)


def _address(data_dir: Path) -> str:
    file = data_dir / "page.json"
    return str(json.loads(file.read_text())["address"]) if file.exists() else ""


def _teach(client: Client, photographs: Path, steps: list[list[str]]) -> None:
    """Teach things step by step, as they come to a shop."""
    train = folder(photographs, 1, None).train
    for step in steps:
        taught = [(label, path) for label in step for path in train.of([label]).images[:_TAUGHT]]
        client.wait_learned(client.add_examples(taught).ids, timeout=_WAIT_S)


def _asked(client: Client, photographs: Path) -> list[tuple[str, Path]]:
    """Ask about photographs that were not taught; return those that it is not sure of, with what they are."""
    known = [one.label for one in client.classes()]
    unseen = folder(photographs, 1, None).test.of(known)
    doubtful = []
    for label, path in zip(unseen.labels, unseen.images, strict=True):
        assert isinstance(path, Path)
        if client.predict(path).doubt() == "improbable":
            doubtful.append((label, path))
    until(lambda: client.inbox().open, "images in the inbox")
    return doubtful


@contextmanager
def _browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _look(address: str, out: Path, doubtful: list[tuple[str, Path]], client: Client) -> None:
    """Take each picture."""
    with _browser() as browser:
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(address)
        with side_by_side(lambda enough: _ask_on(client, doubtful, enough)):
            page.locator(".intervals li").first.wait_for()
            page.locator(".figures", has_text="p99").wait_for()
            _save(page, out / "page-now.png")
        _press(page, "g", "i")
        _label(page, client, doubtful)
        _save(page, out / "page-inbox.png")
        _press(page, "v")
        page.locator(".tile").nth(8).wait_for()
        page.get_by_role("button", name="Choose all").first.click()
        _save(page, out / "page-inbox-many.png")
        _compare(page, address, [one.version for one in client.versions() if one.state == "ready"])
        page.locator(".heatmap").wait_for()
        page.locator("#change").evaluate("heading => heading.closest('section').scrollIntoView()")
        _save(page, out / "page-versions.png")
        page.goto(f"{address}#/try")
        page.locator("input[type=file]").set_input_files(doubtful[len(doubtful) // 2][1])
        page.locator(".neighbours img").first.wait_for()
        _save(page, out / "page-try.png")
        dark = browser.new_page(viewport=_SIZE, color_scheme="dark")
        dark.goto(f"{address}#/classes/{doubtful[0][0]}")
        dark.locator(".kept .tile").first.wait_for()
        _save(dark, out / "page-classes.png")


def _compare(page: Page, address: str, versions: list[int]) -> None:
    """Show the newest version beside the last before it by which the accuracy of some class changed, or the first."""
    newest, *earlier = versions
    for before in earlier:
        page.goto(f"{address}#/versions/{newest}/{before}")
        page.locator("#change", has_text=f"from v{before} to v{newest}").wait_for()
        if page.locator(".changes").count():
            return


def _ask_on(client: Client, photographs: list[tuple[str, Path]], enough: threading.Event) -> None:
    """Be the callers of a shop until it is enough."""
    for _, path in itertools.cycle(photographs):
        client.predict(path)
        if enough.wait(_PAUSE_S):
            return


def _label(page: Page, client: Client, doubtful: list[tuple[str, Path]]) -> None:
    """Say of a few images in the inbox what they are, and stop at one that is between two labels."""
    names = {path.read_bytes(): label for label, path in doubtful}
    labelled = 0
    for _ in range(200):
        page.locator(".answer").first.wait_for()
        source = page.locator(".stage img").get_attribute("src") or ""
        name = names.get(client.inbox_image(parse_qs(urlsplit(source).query)["id"][0]).image)
        answers = page.locator(".answer .label").all_inner_texts()
        if labelled >= _LABELLED and name in answers:
            break
        labelled += name in answers
        _press(page, str(answers.index(name) + 1) if name in answers else "Space")
        page.wait_for_timeout(200)
    page.locator(".given.good").nth(_LABELLED - 1).wait_for()


def _press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def _save(page: Page, file: Path) -> None:
    """Write a picture with few colours, a third of the size: those of the page itself, and some for photographs."""
    page.wait_for_timeout(1200)
    picture = _taken(page)
    page.evaluate(_SHOW_IMAGES, "hidden")
    bare = _taken(page)
    page.evaluate(_SHOW_IMAGES, "visible")
    found = sorted(bare.getcolors(bare.width * bare.height) or [], reverse=True)[:_OWN_COLOURS]
    for colours in _COLOURS:
        content = _quantized(picture, found, colours)
        if len(content) <= _MOST_BYTES:
            break
    file.write_bytes(content)


def _quantized(picture: Image.Image, found: list[tuple[int, Any]], colours: int) -> bytes:
    own = [value for _, colour in found for value in colour]
    others = picture.quantize(colours - len(found)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(own + others[: 3 * (colours - len(found))])
    content = io.BytesIO()
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def _taken(page: Page) -> Image.Image:
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return image.convert("RGB")


if __name__ == "__main__":
    main()
