"""What a working size means on a given slide: magnification, downsample, level."""

import math
import re
from typing import NamedTuple

MICRONS_AT_1X = 10.0  # µm/px at 1x by convention: 0.25 µm/px is 40x, 0.5 µm/px is 20x
TOLERANCE = 0.01      # scanners write downsamples such as 16.0024 for 16
LEAST_MPP, MOST_MPP = 0.05, 20  # µm/px of the full-size picture: no slide has less or more
APART = 1.5           # a magnification and a pixel size that differ by this factor contradict each other
LEAST_SIDE = 16       # px of a working picture: in a smaller one there is nothing to see
LONGEST_SIDE = 65_500      # px of a JPEG picture, by the library that writes it
MOST_PIXELS = 1 << 30      # of an image file, by the library that reads it (OpenCV)


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
    """Magnification of the full-size picture: as the slide states it, else from its pixel size in µm/px.

    None where it states neither, or only what no slide has.
    """
    if objective_power and _possible(MICRONS_AT_1X / objective_power):
        return objective_power
    return MICRONS_AT_1X / mpp if mpp and _possible(mpp) else None


def _possible(mpp: float) -> bool:
    return LEAST_MPP <= mpp <= MOST_MPP


def oddities(objective_power: float | None, mpp: float | None) -> list[str]:
    """What is odd about a slide's magnification and pixel size, for its row."""
    base = base_magnification(objective_power, mpp)
    if base is None:
        return [f"states a {figure}, which no slide has: no magnification is known" for figure in filter(None, [
            objective_power and f"magnification of {objective_power:.4g}x", mpp and f"pixel size of {mpp:.4g} µm/px"])]
    if objective_power != base:
        stated = f"a magnification of {objective_power:.4g}x, which no slide has" if objective_power else (
            "no magnification stated")
        return [f"{stated}: {base:.4g}x taken from {mpp:.4g} µm/px"]
    if mpp and not _possible(mpp):
        return [f"a pixel size of {mpp:.4g} µm/px, which no slide has: the stated {base:g}x is used"]
    if mpp and not 1 / APART < base * mpp / MICRONS_AT_1X < APART:
        return [f"{base:g}x stated beside {mpp:.4g} µm/px, which is {MICRONS_AT_1X / mpp:.3g}x: one of them is wrong, "
                f"and {base:g}x is used"]
    return []


def smaller_than_stated(objective_power: float | None, mpp: float | None) -> bool:
    """Are pixels about twice as large as the magnification says? Then this is a smaller level."""
    return bool(objective_power and mpp and objective_power * mpp / MICRONS_AT_1X > 2 / 1.1)


def no_magnification(objective_power: float | None, mpp: float | None) -> str:
    """Why a slide has no magnification, and what helps."""
    help_ = ("give the working sizes as parts of the full size instead, such as --image-work-size 1/16 "
             "--blur-work-size 1/4")
    if mpp:
        return f"states a pixel size of {mpp:.4g} µm/px, which no slide has: {help_}"
    if objective_power:
        return f"states a magnification of {objective_power:.4g}x, which no slide has: {help_}"
    return ("states neither its magnification (openslide.objective-power) nor its pixel size "
            f"(openslide.mpp-x): {help_}")


def downsample_for(work_size: str, objective_power: float | None, mpp: float | None = None,
                   flag: str = "--image-work-size") -> float:
    """How many full-size pixels one working pixel spans, along an edge.

    Raises ValueError, in words that name the flag, where the slide's magnification is not known or the working size is
    above it.
    """
    size = parse_work_size(work_size)
    if size.downsample:
        return size.downsample
    base = base_magnification(objective_power, mpp)
    if not base:
        raise ValueError(no_magnification(objective_power, mpp))
    downsample = base / size.magnification
    if downsample < 1 - TOLERANCE:
        raise ValueError(f"the working size {size.magnification:g}x is above the slide's own {base:g}x: "
                         f"give {flag} {base:g}x or less")
    return max(1.0, downsample)


def plan(downsample: float, level_dimensions: list[tuple[int, int]], level_downsamples: list[float],
         flag: str = "--image-work-size") -> Plan:
    """Choose the level to read: the coarsest that is not coarser than asked, within 1 %.

    `level_dimensions` are (width, height) in pixels. A ratio within 1 % of a whole number counts as that
    number, and the size is rounded down, as scanners do: so every pyramid of a picture gives the same pixels.
    Raises ValueError, in words that name the flag, if the picture would be smaller than LEAST_SIDE.
    """
    usable = [i for i, ds in enumerate(level_downsamples) if ds <= downsample * (1 + TOLERANCE)]
    level = max(usable, key=lambda i: level_downsamples[i], default=0)
    ratio = max(1.0, downsample / level_downsamples[level])
    if abs(ratio - round(ratio)) <= TOLERANCE * ratio:
        ratio = float(round(ratio))
    width, height = (int(side / ratio) for side in level_dimensions[level])
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"has {width}×{height} px at this working size, too few to see anything: "
                         f"give a larger {flag}")
    return Plan(level, ratio, width, height)


def refuse_too_large(plan: Plan, flag: str = "--image-work-size") -> None:
    """Raise ValueError, in words, where a whole picture of that size cannot be kept as an image file."""
    size = f"has {plan.width}×{plan.height} px at this working size"
    if max(plan.width, plan.height) > LONGEST_SIDE:
        raise ValueError(f"{size}, and a JPEG picture ends at {LONGEST_SIDE} px a side: give a smaller {flag}")
    if plan.width * plan.height > MOST_PIXELS:
        raise ValueError(f"{size}, and an image file is read up to {MOST_PIXELS} px: give a smaller {flag}")
