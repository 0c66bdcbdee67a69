"""A real browser, Debian's Chromium driven by Playwright, that looks at the page as a person does: by keys alone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

WAIT_MS = 300_000
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first is the same engine without the windows around it, at half of the processor time."""
_FAILED_REQUEST = re.compile(r"Failed to load resource|net::ERR|EventSource")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser. Skips, with the reason, where Playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing, which the test extra brings")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("Chromium is missing: apt-get install chromium-headless-shell")
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.getuid() == 0 else [])]  # no GPU is emulated, then
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Tab:
    """A tab of a person who never touches a mouse."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, scheme: Any = "light") -> None:
        """Open the page."""
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.context.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.page = self._listened_to()
        self.page.goto(address)

    def beside(self) -> Tab:
        """Return another tab of the same person."""
        other = object.__new__(Tab)
        other.context, other.complaints = self.context, self.complaints
        other.page = other._listened_to()
        other.page.goto(self.page.url)
        other.find("nav").wait_for()
        return other

    def sign_in(self, token: str) -> None:
        """Paste a token."""
        self.find("input[name=token]").wait_for()
        self.page.keyboard.insert_text(token)
        self.press("Enter")
        self.find("nav").wait_for()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.page.keyboard.type(text)

    def view(self, letter: str, title: str) -> None:
        """Go to a view by its keys."""
        self.press("g", letter)
        self.find(f"h1:text-is('{title}')").wait_for()

    def find(self, selector: str) -> Locator:
        """Return what a selector finds."""
        return self.page.locator(selector)

    def see(self, text: str | re.Pattern[str]) -> None:
        """Return once a text is to be seen."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for()

    def focused(self) -> str:
        """Return the text of what has the focus."""
        return str(self.page.evaluate("document.activeElement.innerText"))

    def tab_to(self, text: str) -> None:
        """Go to a control by the Tab key."""
        for _ in range(60):
            self.press("Tab")
            if text in self.focused():
                return
        raise AssertionError(f"the Tab key does not lead to {text!r}")

    def tab_to_field(self, name: str) -> None:
        """Go to a field by the Tab key."""
        for _ in range(60):
            self.press("Tab")
            if self.page.evaluate("document.activeElement.name") == name:
                return
        raise AssertionError(f"the Tab key does not lead to the field {name!r}")

    def violations(self) -> list[str]:
        """Return what axe finds wrong."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def unasked_complaints(self) -> list[str]:
        """Return what the browser complained of, failed requests left out: a test may have made them fail."""
        return [text for text in self.complaints if not _FAILED_REQUEST.search(text)]

    def _listened_to(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # Files are asked for by Playwright's own means, which is slow to begin with it.
        page.on("filechooser", lambda chooser: None)
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog opened: {dialog.message}"))
        return page

    def _told(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
