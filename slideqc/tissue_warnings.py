"""When the tissue mask, or the figure that rests on it, is not to be trusted: one line for each case."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from slideqc.pixels import LUMA

PALE = 0.87            # mean gray, 0–1, of tissue: fat and loose tissue, in which even sharp edges are weak
DIM = 0.5              # gray, 0–1: glass in transmitted light is brighter
SURROUNDED = 0.02      # part of the picture
STRONG = 60            # gray levels, 0–255, below the glass: stain, ink, dust
STRONG_SHARE = 0.001   # part of the scanned picture


class Tissue(NamedTuple):
    """What the tissue step found."""

    fraction: float      # part of the scanned picture that is tissue, 0–1
    warnings: list[str]  # why the figures of the slide are not to be trusted; mostly empty


class Overview(NamedTuple):
    """What the tissue step saw; gray values 0–1, NaN where there is none."""

    scanned: float      # part of the picture that the scanner saw, 0–1
    surround: float     # part of the picture that is a black surround, 0–1
    tissue: float       # mean gray of the tissue
    ground: float       # median gray of the rest
    strong: float       # part of the scanned picture that is much darker than the rest, 0–1


WARNINGS: tuple[tuple[Callable[[Overview], bool], str], ...] = (
    (lambda seen: not seen.scanned,
     "nothing was scanned: all pixels are transparent"),
    (lambda seen: seen.surround > SURROUNDED,
     "dark surround: {surround:.0%} of the picture is black from the edge inwards and was left out"),
    (lambda seen: seen.ground < DIM,
     "dark background (gray {ground:.2f} of 1): this is no brightfield slide, the figures are not to be trusted"),
    (lambda seen: seen.tissue > PALE,
     "very pale tissue (mean gray {tissue:.2f} of 1): the figure is not to be trusted"),
    (lambda seen: np.isnan(seen.tissue) and seen.strong > STRONG_SHARE,
     "no tissue found, though {strong:.1%} of the slide is dark, in pieces too small to be tissue: look at it"),
    (lambda seen: np.isnan(seen.tissue) and seen.scanned and seen.strong <= STRONG_SHARE,
     "no tissue found: blank glass, or very pale tissue"),
)


def tissue_warnings(rgb: np.ndarray, scanned: np.ndarray, surround: np.ndarray, tissue: np.ndarray) -> list[str]:
    """The warnings for an overview: `rgb` uint8 (height, width, 3), the masks uint8 (height, width), 0 or 255."""
    seen = look(rgb, scanned, surround, tissue)
    return [words.format(**seen._asdict()) for is_so, words in WARNINGS if is_so(seen)]


def look(rgb: np.ndarray, scanned: np.ndarray, surround: np.ndarray, tissue: np.ndarray) -> Overview:
    """Measure what the warnings depend on, in every fourth row of the overview."""
    rgb, scanned, surround, tissue = (each[::4] for each in (rgb, scanned, surround, tissue))
    gray = cv2.transform(rgb, LUMA)
    rest = cv2.bitwise_and(scanned, 255 - cv2.bitwise_or(tissue, surround))
    levels = cv2.calcHist([gray], [0], rest, [256], [0, 256]).ravel()
    area = levels.sum()
    ground = float(np.searchsorted(levels.cumsum(), area / 2)) if area else np.nan
    strong = levels[:max(0, int(ground) - STRONG)].sum() / area if area else 0
    return Overview(
        scanned=cv2.countNonZero(scanned) / scanned.size,
        surround=cv2.countNonZero(surround) / surround.size,
        tissue=cv2.mean(gray, tissue)[0] / 255 if tissue.any() else np.nan,
        ground=ground / 255, strong=float(strong))
