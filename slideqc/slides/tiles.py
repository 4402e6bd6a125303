"""The pixels of one level, tile by tile: decoded here where the tiles are JPEG in a TIFF, else through OpenSlide."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import openslide
from PIL import Image

from slideqc.slides import jpeg_tiles, levels
from slideqc.slides.levels import JpegTiles

PIECE = 512           # px, the side of what OpenSlide is asked for at a time
WHOLE = 8 << 20       # px of the largest level that is read in one piece
NEAR = 64             # px


class Pixels(NamedTuple):
    """Pixels, and which of them the scanner has seen."""

    rgb: np.ndarray             # uint8 (height, width, 3); unscanned parts in the slide's background colour
    scanned: np.ndarray | None  # uint8 (height, width), 255 where scanned, 0 elsewhere; None if all are


class Tiles(Protocol):
    """A level in tiles of one size; at the right and the bottom they may be cut off, or reach beyond the level."""

    width: int
    height: int
    tile_width: int
    tile_height: int

    def read(self, row: int, column: int) -> Pixels:
        """One tile."""


class _OfOpenSlide:
    """Any level, through OpenSlide, in pieces of whole tiles."""

    def __init__(self, slide: openslide.OpenSlide, number: int, background: tuple[int, int, int]) -> None:
        self.slide, self.number, self.background = slide, number, background
        self.width, self.height = slide.level_dimensions[number]
        self.downsample = slide.level_downsamples[number]
        self.tile_width, self.tile_height = (self._piece(side) for side in ("width", "height"))
        # OpenSlide takes corners in full-size pixels. If a corner lies between pixels of this level, it interpolates,
        # and seams show. So a level with a fractional downsample is read in one piece, if memory allows.
        if not self.downsample.is_integer() and self.width * self.height <= WHOLE:
            self.tile_width, self.tile_height = self.width, self.height

    def _piece(self, side: str) -> int:
        stored = int(self.slide.properties.get(f"openslide.level[{self.number}].tile-{side}", 0))
        return stored * max(1, PIECE // stored) if 0 < stored <= 4 * PIECE else PIECE

    def read(self, row: int, column: int) -> Pixels:
        left, top = column * self.tile_width, row * self.tile_height
        size = (min(self.tile_width, self.width - left), min(self.tile_height, self.height - top))
        return self.region(left, top, size)

    def region(self, left: int, top: int, size: tuple[int, int]) -> Pixels:
        """Some pixels of the level."""
        (x, right), (y, down) = map(self._corner, (left, top))
        region = self.slide.read_region((x, y), self.number, (size[0] + right, size[1] + down))
        region = region.crop((right, down, *region.size)) if right or down else region
        alpha = np.asarray(region.getchannel("A"))
        if alpha.min() == 255:
            return Pixels(cv2.cvtColor(np.asarray(region), cv2.COLOR_RGBA2RGB), None)
        canvas = Image.new("RGB", size, self.background)
        canvas.paste(region, mask=region.getchannel("A"))
        scanned = cv2.inRange(alpha, 1, 255)
        return Pixels(np.asarray(canvas), None if scanned.all() else scanned)

    def _corner(self, at: int) -> tuple[int, int]:
        """The full-size coordinate to ask for, and how many pixels of this level that is before the one at `at`.

        OpenSlide interpolates where the two do not meet: so the best meeting point among the nearest ones.
        """
        before = np.arange(min(at, NEAR) + 1)
        corners = np.rint((at - before) * self.downsample)
        best = int(np.abs(corners / self.downsample - (at - before)).argmin())
        return int(corners[best]), best


class _OfTiff:
    """A level of JPEG tiles in a TIFF: OpenSlide's pixels, three to ten times faster."""

    def __init__(self, path: Path, level: JpegTiles, number: int, background: tuple[int, int, int],
                 stack: contextlib.ExitStack) -> None:
        self.file = stack.enter_context(path.open("rb", buffering=0))
        self.path, self.level, self.number, self.background, self.stack = path, level, number, background, stack
        self.width, self.height, self.tile_width, self.tile_height = level[:4]
        self.across = level.grid[1]
        self.gaps: _OfOpenSlide | None = None

    def read(self, row: int, column: int) -> Pixels:
        index = row * self.across + column
        size = int(self.level.counts[index])
        if not size:
            return self._gap(row, column)
        self.file.seek(self.level.offsets[index])
        return Pixels(jpeg_tiles.decode(self.file.read(size), self.level.head, self.tile_width, self.tile_height),
                      None)

    def _gap(self, row: int, column: int) -> Pixels:
        """A tile without bytes: of a lower level, OpenSlide may fill it from a larger one."""
        shape = (self.tile_height, self.tile_width)
        if self.number == 0:
            return Pixels(np.full((*shape, 3), self.background, np.uint8), np.zeros(shape, np.uint8))
        if self.gaps is None:
            slide = self.stack.enter_context(openslide.OpenSlide(self.path))
            self.gaps = _OfOpenSlide(slide, self.number, self.background)
        return self.gaps.region(column * self.tile_width, row * self.tile_height, shape[::-1])


@contextlib.contextmanager
def opened(path: Path, vendor: str, number: int, dimensions: tuple[int, int],
           background: tuple[int, int, int]) -> Iterator[Tiles]:
    """The tiles of OpenSlide's level `number`, of `dimensions` (width, height)."""
    with contextlib.ExitStack() as stack:
        level = levels.jpeg_tiles_of(path, vendor, number, dimensions) if vendor in levels.TIFF_VENDORS else None
        if level is not None:
            yield _OfTiff(path, level, number, background, stack)
            return
        # After one read error an OpenSlide handle is dead, and it cannot be pickled: so each picture opens its own.
        slide = stack.enter_context(openslide.OpenSlide(path))
        yield _OfOpenSlide(slide, number, background)
