"""Which pictures of a file are levels of the slide, and which page of a TIFF holds each of them.

OpenSlide lists every tiled page of an Aperio file as a level, also the overview camera's picture or the label.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slideqc.slides import jpeg_tiles, tiff
from slideqc.slides.tiff import Page

TIFF_VENDORS = ("aperio", "generic-tiff")  # here the page of each level is known
ALIKE = 0.01  # relative error of a level's sides, beyond rounding: some writers pad them
REDUCED, MACRO = 1, 8  # bits of the tag NewSubfileType: a smaller level; Aperio's mark for the overview picture
JPEG, RGB, YCBCR = 7, 2, 6  # numbers of the TIFF specification


class JpegTiles(NamedTuple):
    """A level stored as JPEG tiles: where they lie in the file, and what is common to all."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: np.ndarray  # int64, row by row
    counts: np.ndarray   # bytes of each tile; 0: a gap, since nothing was scanned there
    head: bytes          # of each tile's JPEG stream

    @property
    def grid(self) -> tuple[int, int]:
        """How many tiles it has, down and across."""
        return -(-self.height // self.tile_height), -(-self.width // self.tile_width)


def real_levels(dimensions: list[tuple[int, int]]) -> list[int]:
    """The indices of those pictures, (width, height) in px, that are the first one, reduced by one number."""
    width, height = dimensions[0]
    # A side that was rounded by one pixel moves the difference of the products by the other one's full size.
    return [number for number, (wide, high) in enumerate(dimensions)
            if abs(width * high - height * wide) <= max(width, height) + ALIKE * height * wide]


def pages_of_levels(path: Path, vendor: str) -> list[Page]:
    """The page behind each level that OpenSlide lists, in its order."""
    tiled = [page for page in tiff.pages(path) if page.tiled]
    if vendor == "aperio":
        return tiled
    levels = [page for page in tiled if page.number == 0 or page.value(tiff.SUBFILE_TYPE) & REDUCED]
    return sorted(levels, key=lambda page: -page.value(tiff.WIDTH))


def is_level(page: Page) -> bool:
    """Does the page call itself neither a label nor a picture of the overview camera?"""
    words = page.description.splitlines()[1:2]
    return not (page.value(tiff.SUBFILE_TYPE) & MACRO or (words and words[0].startswith(("label", "macro"))))


def jpeg_tiles_of(path: Path, vendor: str, number: int, dimensions: tuple[int, int]) -> JpegTiles | None:
    """Where the tiles of OpenSlide's level `number` lie, if they are JPEG of 8-bit RGB or YCbCr; None otherwise.

    `dimensions` are the level's (width, height), as OpenSlide gives them.
    """
    found = [_jpeg_tiles(page) for page in pages_of_levels(path, vendor)]
    if vendor == "aperio":
        for finer, coarser in pairwise(found[:number + 1]):
            if finer and coarser:
                _spread_gaps(finer, coarser)
    level = found[number] if number < len(found) else None
    return level if level is not None and (level.width, level.height) == dimensions else None


def _spread_gaps(finer: JpegTiles, coarser: JpegTiles) -> None:
    """Leave out tiles in which a larger level has a gap: in Aperio files, OpenSlide draws these from that level."""
    down, across, high, wide = *finer.grid, *coarser.grid
    rows, columns = np.divmod(np.flatnonzero(finer.counts == 0), across)
    rows, columns = rows // max(1, round(down / high)), columns // max(1, round(across / wide))
    inside = (rows < high) & (columns < wide)
    coarser.counts[rows[inside] * wide + columns[inside]] = 0


def _jpeg_tiles(page: Page) -> JpegTiles | None:
    if (page.value(tiff.COMPRESSION) != JPEG or page.value(tiff.PHOTOMETRIC) not in (RGB, YCBCR)
            or page.value(tiff.SAMPLES, 1) != 3 or set(page.tags.get(tiff.BITS, [1])) != {8}
            or page.value(tiff.PLANAR, 1) != 1):
        return None
    offsets, counts = page.places
    return JpegTiles(*map(page.value, (tiff.WIDTH, tiff.HEIGHT, tiff.TILE_WIDTH, tiff.TILE_HEIGHT)), offsets,
                     counts.copy(), jpeg_tiles.head(bytes(page.tags.get(tiff.JPEG_TABLES, b"")),
                                                    page.value(tiff.PHOTOMETRIC) == RGB))
