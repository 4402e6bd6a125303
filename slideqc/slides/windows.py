"""A working picture window by window, with a margin for filters that use the surroundings of a pixel."""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import NamedTuple

import cv2
import numpy as np

from slideqc.slides.cells import Axis, Cells
from slideqc.slides.tiles import Pixels

SIDE = 512  # px, about: a window is a whole number of cells


class Window(NamedTuple):
    """A part of the working picture, from (left, top) up to (right, bottom), in its pixels; windows do not overlap.

    `rgb`, uint8, and `scanned`, uint8 0 or 255, or None if everything is scanned, have the margin in addition, except
    where the picture ends. `inner` cuts it off again: `rgb[window.inner]` is the window.
    """

    left: int
    top: int
    right: int
    bottom: int
    inner: tuple[slice, slice]
    rgb: np.ndarray
    scanned: np.ndarray | None


def windows(cells: Cells, margin: int, wanted: np.ndarray | None = None, side: int = SIDE) -> Iterator[Window]:
    """Go over the working picture, row by row, and yield the windows that contain a pixel of `wanted`.

    `wanted` is a mask of the whole picture, of any size; None: all of it. What lies more than `margin` px away from
    it may be black in a window: those tiles are not read. Each tile is read once.
    """
    width, height = cells.columns.cuts[-1], cells.rows.cuts[-1]
    rows, columns = (list(pairwise(_cuts(axis, margin, side))) for axis in (cells.rows, cells.columns))
    if wanted is not None:
        cells.wanted = _any(wanted, cells.rows.cuts, cells.columns.cuts, margin + 1)
        asked = _any(wanted, [0, *(bottom for _, bottom in rows)], [0, *(right for _, right in columns)], 0)
    for (row, (top, bottom)), (column, (left, right)) in product(enumerate(rows), enumerate(columns)):
        x, y = max(0, left - margin), max(0, top - margin)
        if wanted is None or asked[row, column]:
            rgb, scanned = cells.read(x, y, min(width, right + margin), min(height, bottom + margin))
            inner = np.s_[top - y:bottom - y, left - x:right - x]
            yield Window(left, top, right, bottom, inner, rgb, scanned)
        # The next window in this row begins a margin to the left, those of the next row a margin further up.
        cells.forget(bottom - margin, right - margin if right < width else width + 1)


def cut(picture: Pixels, margin: int, wanted: np.ndarray | None = None, side: int = SIDE) -> Iterator[Window]:
    """The same for a whole picture that is in memory: views of it, of `side` px or less."""
    height, width = picture.rgb.shape[:2]
    downs, acrosses = [*range(0, height, side), height], [*range(0, width, side), width]
    asked = None if wanted is None else _any(wanted, downs, acrosses, 0)
    for (row, (top, bottom)), (column, (left, right)) in product(enumerate(pairwise(downs)),
                                                                 enumerate(pairwise(acrosses))):
        if asked is None or asked[row, column]:
            y, x = max(0, top - margin), max(0, left - margin)
            outer, inner = np.s_[y:bottom + margin, x:right + margin], np.s_[top - y:bottom - y, left - x:right - x]
            yield Window(left, top, right, bottom, inner, picture.rgb[outer],
                         None if picture.scanned is None else picture.scanned[outer])


def _cuts(axis: Axis, margin: int, side: int) -> list[int]:
    """Where windows begin and end, `side` apart or somewhat more.

    Their margins end where cells do, so that no more than the margins has to be kept for the next windows.
    """
    end, cuts = axis.cuts[-1], [0]
    for cut in axis.cuts[1:-1]:
        if cut - margin - cuts[-1] >= side and end - (cut - margin) >= side // 2:
            cuts.append(cut - margin)
    return [*cuts, end]


def _any(mask: np.ndarray, rows: list[int], columns: list[int], margin: int) -> np.ndarray:
    """Which rectangles between the cuts, enlarged by a margin, contain a pixel of the mask: bool (rows, columns).

    The mask may be smaller than the picture: one of its pixels around the rectangle counts as well.
    """
    sums = cv2.integral(np.uint8(mask > 0))
    low, high = [], []
    for side, cuts in zip(mask.shape, (rows, columns), strict=True):
        cuts = np.array(cuts)
        low.append(np.clip(np.floor((cuts[:-1] - margin) * side / cuts[-1]).astype(int) - 1, 0, side))
        high.append(np.clip(np.ceil((cuts[1:] + margin) * side / cuts[-1]).astype(int) + 1, 0, side))
    (y, x), (below, beside) = low, high
    return sums[np.ix_(below, beside)] - sums[np.ix_(y, beside)] - sums[np.ix_(below, x)] + sums[np.ix_(y, x)] > 0
