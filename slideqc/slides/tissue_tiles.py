"""The tissue of a slide in tiles at one working size; its masks have another size, that of the overview."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from slideqc.slides.windows import Window


class Tile(NamedTuple):
    """A part of the slide at a working size, with a margin for a filter that looks around each pixel."""

    rgb: np.ndarray                       # uint8 (height, width, 3), margin included
    tissue: np.ndarray                    # uint8 (height, width), 255 on tissue, 0 elsewhere and in the margin
    here: tuple[np.ndarray, np.ndarray]   # rows and columns of this tile …
    there: tuple[slice, slice]            # … that the overview shows at these rows and columns

    def copy_to(self, overview: np.ndarray, mask: np.ndarray) -> None:
        """Copy a mask of this tile, uint8 (height, width), to its place in a mask of the overview."""
        overview[self.there] = mask[np.ix_(*self.here)]


def tiles(windows: Iterable[Window], width: int, height: int, tissue: np.ndarray, margin: int) -> Iterator[Tile]:
    """The tissue in each window of a picture of `width` × `height` px, with `margin` px around it.

    `tissue` is the mask of the overview. The windows have a margin that is one pixel wider, so that each tile can begin
    at an even row and column: then means of 2 × 2 pixels are the same in every tile.
    """
    size = (height, width)
    to_overview = [nearest(of, to) for of, to in zip(tissue.shape, size, strict=True)]
    from_overview = [nearest(of, to) for of, to in zip(size, tissue.shape, strict=True)]
    for window in windows:
        rows, columns = to_overview[0][window.top:window.bottom], to_overview[1][window.left:window.right]
        found = tissue[rows[0]:rows[-1] + 1].take(columns, axis=1)[rows - rows[0]]
        x, y, across, down = cv2.boundingRect(found)
        if not across:
            continue
        spans = [(window.top + y, window.top + y + down), (window.left + x, window.left + x + across)]
        starts = [max(0, start - margin) // 2 * 2 for start, _ in spans]
        stops = [min(full, stop + margin) for full, (_, stop) in zip(size, spans, strict=True)]
        (top, left), (bottom, right) = starts, stops
        first_row, first_column = window.top - window.inner[0].start, window.left - window.inner[1].start
        rgb = window.rgb[top - first_row:bottom - first_row, left - first_column:right - first_column]
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[tuple(slice(start - first, stop - first) for first, (start, stop) in zip(starts, spans, strict=True))] = (
            found[y:y + down, x:x + across])
        there = [slice(*np.searchsorted(places, span)) for places, span in zip(from_overview, spans, strict=True)]
        here = [places[part] - first for places, part, first in zip(from_overview, there, starts, strict=True)]
        yield Tile(rgb, mask, tuple(here), tuple(there))


def nearest(of: int, to: int) -> np.ndarray:
    """Nearest neighbours along one side of a picture that is `of` px long, and `to` px at another size.

    Returns the index, 0 to of - 1, of the nearest pixel for each of the `to` pixels: int64 (to,), ascending.
    """
    return np.minimum(((np.arange(to) + 0.5) * (of / to)).astype(int), of - 1)
