"""What a working size means on a given slide: magnification, downsample, level."""

import math
import re
from typing import NamedTuple

MICRONS_AT_1X = 10.0  # µm/px at 1x by convention: 0.25 µm/px is 40x, 0.5 µm/px is 20x
TOLERANCE = 0.01      # scanners write downsamples such as 16.0024 for 16


class WorkSize(NamedTuple):
    """A working size: a magnification (`1.25x`), or a part of the full size (`1/16`)."""

    magnification: float | None
    downsample: float | None


class Plan(NamedTuple):
    """Where the pixels of a working size come from: reduce `level` by `reduction` to `width` × `height`."""

    level: int
    reduction: float
    width: int
    height: int


def parse_work_size(text: str) -> WorkSize:
    """Read `1.25x` (a magnification) or `1/16` (a part of the full size); ValueError for anything else."""
    part = re.fullmatch(r"\s*1\s*/\s*(\d+(?:\.\d+)?)\s*", text)
    magnification = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*[xX×]?\s*", text)
    number = float((part or magnification)[1]) if part or magnification else math.nan
    if not 0 < number < math.inf or (part and number < 1):
        raise ValueError(f"{text!r} is not a working size: give a magnification above 0 such as 1.25x, "
                         "or a part of the full size such as 1/16")
    return WorkSize(None, number) if part else WorkSize(number, None)


def base_magnification(objective_power: float | None, mpp: float | None) -> float | None:
    """Magnification of the full-size picture: as the slide states it, else from its pixel size in µm/px."""
    if objective_power:
        return objective_power
    return MICRONS_AT_1X / mpp if mpp else None


def downsample_for(image_work_size: str, base_mag: float | None) -> float:
    """How many full-size pixels one working pixel spans, along an edge.

    Raises ValueError, in words, where the slide states no magnification or the working size is above it.
    """
    size = parse_work_size(image_work_size)
    if size.downsample:
        return size.downsample
    if not base_mag:
        raise ValueError("states neither its magnification (openslide.objective-power) nor its pixel size "
                         "(openslide.mpp-x): give the working size as a part of the full size instead, "
                         "such as --image-work-size 1/16")
    downsample = base_mag / size.magnification
    if downsample < 1 - TOLERANCE:
        raise ValueError(f"the working size {size.magnification:g}x is above the slide's own {base_mag:g}x: "
                         f"give --image-work-size {base_mag:g}x or less")
    return max(1.0, downsample)


def plan(downsample: float, level_dimensions: list[tuple[int, int]], level_downsamples: list[float]) -> Plan:
    """Choose the level to read: the coarsest that is not coarser than asked, within 1 %.

    `level_dimensions` are (width, height) in pixels. A ratio within 1 % of a whole number counts as that
    number, and the size is rounded down, as scanners do: so every pyramid of a picture gives the same pixels.
    Raises ValueError where no pixel would be left.
    """
    usable = [i for i, ds in enumerate(level_downsamples) if ds <= downsample * (1 + TOLERANCE)]
    level = max(usable, key=lambda i: level_downsamples[i], default=0)
    ratio = max(1.0, downsample / level_downsamples[level])
    if abs(ratio - round(ratio)) <= TOLERANCE * ratio:
        ratio = float(round(ratio))
    width, height = (int(side / ratio) for side in level_dimensions[level])
    if min(width, height) < 1:
        raise ValueError(f"is empty at this working size ({width}×{height} px): give a larger --image-work-size")
    return Plan(level, ratio, width, height)
