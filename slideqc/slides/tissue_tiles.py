"""A slide in tiles at one working size, and masks of it at another: where is the same place in both?"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

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


def tiles(windows: Iterable[Window], width: int, height: int, tissue: np.ndarray) -> Iterator[Tile]:
    """The windows of a picture of `width` × `height` px as tiles; `tissue` is the mask of the overview.

    Their rows and columns begin at even numbers, so that means of 2 × 2 pixels are the same in each tile.
    """
    to_overview = [nearest(of, to) for of, to in zip(tissue.shape, (height, width), strict=True)]
    from_overview = [nearest(of, to) for of, to in zip((height, width), tissue.shape, strict=True)]
    for window in windows:
        spans = (window.top, window.bottom), (window.left, window.right)
        margins = [part.start for part in window.inner]
        skips = [(start - margin) % 2 for (start, _), margin in zip(spans, margins, strict=True)]
        rgb = window.rgb[skips[0]:, skips[1]:]
        inner = [slice(part.start - skip, part.stop - skip) for part, skip in zip(window.inner, skips, strict=True)]
        mask = np.zeros(rgb.shape[:2], np.uint8)
        rows, columns = (places[start:stop] for places, (start, stop) in zip(to_overview, spans, strict=True))
        mask[tuple(inner)] = tissue[rows[0]:rows[-1] + 1].take(columns, axis=1)[rows - rows[0]]
        there = [slice(*np.searchsorted(places, span)) for places, span in zip(from_overview, spans, strict=True)]
        here = [places[part] - start + at.start
                for places, part, (start, _), at in zip(from_overview, there, spans, inner, strict=True)]
        yield Tile(rgb, mask, tuple(here), tuple(there))


def nearest(of: int, to: int) -> np.ndarray:
    """One side of a picture is `of` px long, and `to` px at another size: which of the first each of the second shows.

    Returns whole numbers (to,), from 0 to of - 1, that never fall.
    """
    return np.minimum(((np.arange(to) + 0.5) * (of / to)).astype(int), of - 1)
