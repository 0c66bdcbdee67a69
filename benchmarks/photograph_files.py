"""Photographs as applications send them: JPEG files of 500 pixels, and of a telephone's 12 million.

Made from a photograph of one's own, or drawn: what a decoder costs depends on how much there is to decode, so that both
kinds get a sensor's noise, and come to 0.2 to 0.5 bytes a pixel as those of cameras do.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TELEPHONE = (4032, 3024)
SMALL = (500, 375)


def photographs_below(folder: Path) -> list[Path]:
    """Return the photographs at any depth below a folder, sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder}: no photographs ({', '.join(_SUFFIXES)})")
    return files


def telephone(folder: Path | None) -> bytes:
    """Return a JPEG of 4032 x 3024 pixels, from a photograph below `folder` or drawn."""
    return _file(_picture(folder), TELEPHONE, noise=4.0, quality=90)


def small(folder: Path | None) -> bytes:
    """Return a JPEG of 500 x 375 pixels, likewise."""
    return _file(_picture(folder), SMALL, noise=2.0, quality=85)


def _picture(folder: Path | None) -> Image.Image:
    if folder is None:
        return _drawn()
    return Image.open(photographs_below(folder)[0]).convert("RGB")


def _drawn() -> Image.Image:
    """Return colours whose power falls with the square of the frequency, as that of photographs does (Field 1987)."""
    draw, side = np.random.default_rng(1993), 1024
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    channels = [np.fft.irfft2(np.fft.rfft2(draw.standard_normal((side, side))) * fall) for _ in range(3)]
    light, *hues = (channel / channel.std() for channel in channels)
    return Image.fromarray(_bytes(np.stack([128 + 50 * light + 12 * hue for hue in (*hues, -hues[0])], axis=2)))


def _file(picture: Image.Image, size: tuple[int, int], *, noise: float, quality: int) -> bytes:
    """Return the picture at that size with a sensor's noise, a standard deviation of so many levels."""
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)
    draw = np.random.default_rng(12)
    noisy = _bytes(pixels + noise * draw.standard_normal(pixels.shape[:2], np.float32)[..., None])
    made = io.BytesIO()
    Image.fromarray(noisy).save(made, "JPEG", quality=quality)
    return made.getvalue()


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
