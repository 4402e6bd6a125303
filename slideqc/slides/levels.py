"""Which pictures of a file are levels of the slide, and which page of a TIFF holds each of them.

OpenSlide lists every tiled page of an Aperio file as a level, also the overview camera's picture or the label.
"""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from slideqc.slides import jpeg_tiles
from slideqc.slides.tiff import opened

TIFF_VENDORS = ("aperio", "generic-tiff")  # of which we know the page of each level
ALIKE = 0.01  # the sides of a level may be off by so much, beside rounding: some writers pad them
REDUCED, MACRO = 1, 8  # bits of the tag NewSubfileType: a smaller level; Aperio's mark for the overview picture
COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)


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


class _Page(NamedTuple):
    """What a page that OpenSlide lists as a level holds."""

    tiles: JpegTiles | None
    named_otherwise: bool  # a label, or the overview camera's picture


def real_levels(dimensions: list[tuple[int, int]]) -> list[int]:
    """The numbers of those pictures, (width, height) in pixels, whose sides are the first one's over one number."""
    width, height = dimensions[0]
    # A side that was rounded by one pixel moves the difference of the products by the other one's full size.
    return [number for number, (wide, high) in enumerate(dimensions)
            if abs(width * high - height * wide) <= max(width, height) + ALIKE * height * wide]


def pages_of_levels(tiff: tifffile.TiffFile, vendor: str) -> list[tifffile.TiffPage]:
    """The page behind each level that OpenSlide lists, in its order."""
    tiled = [page for page in tiff.pages if page.is_tiled]
    if vendor == "aperio":
        return tiled
    levels = [page for page in tiled if page.index == 0 or page.subfiletype & REDUCED]
    return sorted(levels, key=lambda page: -page.imagewidth)


def is_level(path: Path, vendor: str, number: int) -> bool:
    """Does the page of OpenSlide's level `number` call itself no label, and no picture of the overview camera?"""
    pages = _read(path, vendor, *_stamp(path))
    return number >= len(pages) or not pages[number].named_otherwise


def jpeg_tiles_of(path: Path, vendor: str, number: int, dimensions: tuple[int, int]) -> JpegTiles | None:
    """Where the tiles of OpenSlide's level `number` lie, if they are JPEG of 8-bit RGB or YCbCr; None otherwise.

    `dimensions` are the level's (width, height), as OpenSlide gives them.
    """
    pages = _read(path, vendor, *_stamp(path))
    level = pages[number].tiles if number < len(pages) else None
    return level if level is not None and (level.width, level.height) == dimensions else None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=2)  # the steps of the pipeline ask for the same slide in turn
def _read(path: Path, vendor: str, *stamp: int) -> list[_Page]:
    with opened(path) as tiff:
        pages = pages_of_levels(tiff, vendor)
        found = [_Page(_jpeg_tiles(page), _named_otherwise(page)) for page in pages]
    if vendor == "aperio":
        for finer, coarser in pairwise(page.tiles for page in found):
            if finer and coarser:
                _spread_gaps(finer, coarser)
    return found


def _spread_gaps(finer: JpegTiles, coarser: JpegTiles) -> None:
    """Leave out tiles in which a larger level has a gap: OpenSlide draws those of an Aperio file anew from there."""
    down, across, high, wide = *finer.grid, *coarser.grid
    rows, columns = np.divmod(np.flatnonzero(finer.counts == 0), across)
    rows, columns = rows // max(1, round(down / high)), columns // max(1, round(across / wide))
    inside = (rows < high) & (columns < wide)
    coarser.counts[rows[inside] * wide + columns[inside]] = 0


def _named_otherwise(page: tifffile.TiffPage) -> bool:
    words = page.description.splitlines()[1:2]
    return bool(page.subfiletype & MACRO or (words and words[0].startswith(("label", "macro"))))


def _jpeg_tiles(page: tifffile.TiffPage) -> JpegTiles | None:
    if (page.compression != tifffile.COMPRESSION.JPEG or page.bitspersample != 8 or page.samplesperpixel != 3
            or page.planarconfig != tifffile.PLANARCONFIG.CONTIG or page.photometric not in COLOURS):
        return None
    coded_as_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    return JpegTiles(page.imagewidth, page.imagelength, page.tilewidth, page.tilelength,
                     np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64),
                     jpeg_tiles.head(page.jpegtables or b"", coded_as_rgb))
