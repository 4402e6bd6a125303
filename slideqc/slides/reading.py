"""From a slide file to its facts and its pixels.

OpenSlide opens every format. Where a level is plain JPEG tiles in a TIFF (Aperio, generic), its pixels are read
with tifffile and simplejpeg instead: the same pixels, three to ten times sooner.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from threading import local
from typing import NamedTuple

import cv2
import numpy as np
import openslide

from slideqc.errors import SlideError
from slideqc.slides import dicom, levels, magnification, memory, refused, tiff, tiles
from slideqc.slides.cells import Cells
from slideqc.slides.magnification import Plan
from slideqc.slides.tiles import Pixels
from slideqc.slides.windows import Window, cut, windows

# One slide stays on one core: the parallel variants of the pipeline scale by slides.
cv2.setNumThreads(1)

BYTES_A_PIXEL = 16    # of a picture, for itself, the overlay, and what they are made from
ORDINARY = 256 << 20  # bytes; below this, free memory is not checked


class Facts(NamedTuple):
    """What a slide says of itself; small, and safe to pickle."""

    vendor: str
    objective_power: float | None
    mpp: float | None
    background: tuple[int, int, int]
    level_dimensions: list[tuple[int, int]]
    level_downsamples: list[float]
    level_numbers: list[int]  # in OpenSlide, which lists more pictures as levels
    orientation: int  # of a TIFF: 1 upright, the others turned or mirrored


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn whatever the reading libraries raise into a SlideError that names the slide, without its folder."""
    try:
        yield
    except SlideError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot be opened ({error.strerror or error}): is the drive still there?"
    except (openslide.OpenSlideError, ValueError) as error:
        problem = refused.why_not_read(path, error)
    else:
        return
    problem = problem.replace(str(path), path.name).replace(f"{path.parent}{os.sep}", "")
    raise SlideError(f"{path.name} {' '.join(problem.split())}")


def read_facts(path: Path) -> Facts:
    """Open the slide, read its metadata, close it. Raises SlideError, in words."""
    with in_words(path):
        refused.refuse_missing(path)
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise SlideError(refused.why_not_opened(path, error)) from error
        with slide:
            refused.refuse_incomplete(path)
            _try_full_size(slide)
            facts = _facts(path, slide)
        if facts.vendor == "dicom" and magnification.smaller_than_stated(facts.objective_power, facts.mpp):
            raise SlideError(dicom.NO_FULL_SIZE)
        return facts


def _facts(path: Path, slide: openslide.OpenSlide) -> Facts:
    properties = slide.properties
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
    numbers = levels.real_levels(slide.level_dimensions)
    if vendor in levels.TIFF_VENDORS:
        pages = levels.pages_of_levels(path, vendor)
        numbers = [number for number in numbers if number == 0 or levels.is_level(pages[number])]
    return Facts(
        vendor=vendor,
        objective_power=_positive(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
        mpp=_positive(properties.get(openslide.PROPERTY_NAME_MPP_X)),
        background=tuple(bytes.fromhex(properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF"))),
        level_dimensions=[slide.level_dimensions[number] for number in numbers],
        level_downsamples=[slide.level_downsamples[number] for number in numbers],
        level_numbers=numbers,
        orientation=tiff.pages(path)[0].value(tiff.ORIENTATION, 1) if tiff.is_tiff(path) else 1,
    )


def _try_full_size(slide: openslide.OpenSlide) -> None:
    """Read three of the largest level's pixels: a file of which only smaller levels can be read is not whole."""
    width, height = slide.dimensions
    for x, y in ((0, 0), (width // 2, height // 2), (width - 1, height - 1)):
        slide.read_region((x, y), 0, (1, 1))


def _positive(text: str | None) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return value if 0 < (value := float(text)) < float("inf") else None


# Pixels -------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def _cells(path: Path, facts: Facts, plan: Plan) -> Iterator[Cells]:
    with in_words(path), tiles.opened(path, facts.vendor, facts.level_numbers[plan.level],
                                      facts.level_dimensions[plan.level], facts.background) as opened:
        yield Cells(opened, plan)


def read_windows(path: Path, facts: Facts, plan: Plan, margin: int, wanted: np.ndarray | None = None,
                 **options: int) -> Iterator[Window]:
    """Go over the picture of `plan` in windows with a margin; `wanted` is a mask of where there is something to see.

    Some megabytes are in memory at a time, however large the picture is; each tile is decoded once, those away from
    `wanted` never. The pixels are those of the whole picture. Raises SlideError when a tile is damaged.
    """
    if _last.key == _key(path, plan):
        yield from cut(_last.pixels, margin, wanted, **options)
        return
    with _cells(path, facts, plan) as cells:
        yield from windows(cells, margin, wanted, **options)


class _LastPicture(local):
    """The picture that this thread read last: the steps of a slide ask for the same one in turn."""

    key: tuple | None = None
    pixels: Pixels | None = None


_last = _LastPicture()


def _key(path: Path, plan: Plan) -> tuple:
    with in_words(path):
        stamp = path.stat()
    return path, plan, stamp.st_mtime_ns, stamp.st_size


def read_picture(path: Path, facts: Facts, plan: Plan) -> Pixels:
    """The whole slide: RGB, uint8 (plan.height, plan.width, 3), read-only, and which of its pixels were scanned.

    Unscanned parts have the slide's background colour. Raises SlideError when a tile is damaged. Each thread keeps
    the picture that it read last.
    """
    key = _key(path, plan)
    if _last.key != key:
        _last.key = _last.pixels = None  # frees the old picture before the new one is read
        with _room_for(path, plan):
            _last.pixels = _read_whole(path, facts, plan)
        _last.key = key
    return _last.pixels


@contextlib.contextmanager
def _room_for(path: Path, plan: Plan) -> Iterator[None]:
    """Raise SlideError, before the work or in it, where a picture is too large for a file or for the memory."""
    needed = plan.width * plan.height * BYTES_A_PIXEL
    too_much = SlideError(f"{path.name} needs about {needed / 1e9:.1f} GB of memory at this working size "
                          f"({plan.width}×{plan.height} px), and less is free: give a smaller --image-work-size, "
                          "or run fewer --workers")
    try:
        magnification.refuse_too_large(plan)
        if needed > ORDINARY and needed > (memory.free() or needed):
            raise too_much
        yield
    except ValueError as error:
        raise SlideError(f"{path.name} {error}") from None
    except MemoryError:
        raise too_much from None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise too_much from None
        raise


def _read_whole(path: Path, facts: Facts, plan: Plan) -> Pixels:
    rgb = np.empty((plan.height, plan.width, 3), np.uint8)
    scanned = np.full((plan.height, plan.width), 255, np.uint8)
    for window in read_windows(path, facts, plan, margin=0):
        there = np.s_[window.top:window.bottom, window.left:window.right]
        rgb[there] = window.rgb
        if window.scanned is not None:
            scanned[there] = window.scanned
    rgb.flags.writeable = scanned.flags.writeable = False
    return Pixels(rgb, None if scanned.all() else scanned)

