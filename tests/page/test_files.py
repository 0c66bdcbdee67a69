"""The page's own files: their types, their size, and that they ask nothing of anybody else."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from accrete_page.application import STATIC

SCRIPTS = sorted(STATIC.rglob("*.js"))
MOST_LINES = 200


def test_types_are_as_their_comments_say():
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("tsc is missing: npm install typescript")
    done = subprocess.run([compiler, "-p", str(STATIC / "jsconfig.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_made_of_text():
    for file in (*SCRIPTS, *STATIC.rglob("*.css"), *STATIC.rglob("*.html")):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|\burl\(", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            file
        )
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=\"", text), file


def test_modules_stay_small():
    long = [file.name for file in SCRIPTS if len(file.read_text().splitlines()) > MOST_LINES]
    assert not long
