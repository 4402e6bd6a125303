"""Rectangles of a level at a working size, without the whole level in memory.

A working pixel is the mean over `reduction` × `reduction` pixels of the level. The working pixels of a tile are a cell.
A cell is always computed in the same way, so a rectangle is equal to that part of the whole picture, to the last bit.
"""

import math
from bisect import bisect_right
from itertools import product

import cv2
import numpy as np

from slideqc.slides.magnification import Plan
from slideqc.slides.tiles import Pixels, Tiles

KEPT = 64 << 20  # bytes of cells that are kept for the next windows


class Axis:
    """How the tiles of a level cut one side of its working picture: a pixel belongs to the cell in which it ends."""

    def __init__(self, tile: int, full: int, working: int, reduction: float) -> None:
        self.simple = reduction.is_integer() and (tile % reduction == 0 or tile >= full)  # no pixel lies in two tiles
        # The size was rounded down, so a pixel is slightly larger than a reduction that is no whole number.
        reduction = reduction if reduction.is_integer() else full / working
        self.tile, self.full, self.reduction = tile, full, reduction
        self.tiles = math.ceil(reduction / tile)  # in one cell: a working pixel may be wider than a tile
        self.cells = -(-full // (self.tiles * tile))
        ends = [math.floor(cell * self.tiles * tile / reduction) for cell in range(1, self.cells)]
        self.cuts = [0, *(min(end, working) for end in ends), working]  # cell n has the pixels cuts[n]:cuts[n + 1]

    def cells_of(self, start: int, stop: int) -> range:
        """The cells that have the pixels from `start` up to `stop`."""
        return range(bisect_right(self.cuts, start) - 1, bisect_right(self.cuts, stop - 1))

    def tiles_of(self, cell: int) -> range:
        """The tiles that a cell comes from."""
        return range(cell * self.tiles, min((cell + 1) * self.tiles, -(-self.full // self.tile)))

    def size(self, cell: int) -> int:
        """How many pixels the cell has."""
        return self.cuts[cell + 1] - self.cuts[cell]

    def parts(self, cell: int) -> int:
        """The number of pixels that its tiles have a part of: the cell's, and one that ends in the next cell."""
        end = math.ceil((cell + 1) * self.tiles * self.tile / self.reduction)
        return min(end, self.cuts[-1]) - self.cuts[cell]

    def edges(self, cell: int, tile: int, full: int) -> np.ndarray:
        """The edges of those pixels in px of a tile, `full` px of which belong to the level."""
        pixels = self.cuts[cell] + np.arange(self.parts(cell) + 1)
        return np.clip(pixels * self.reduction - tile * self.tile, 0, full)


class Cells:
    """The working picture of a level. `wanted` (rows, columns) names the cells to read, the others stay blank."""

    def __init__(self, tiles: Tiles, plan: Plan, wanted: np.ndarray | None = None) -> None:
        self.tiles, self.wanted = tiles, wanted
        self.rows = Axis(tiles.tile_height, tiles.height, plan.height, plan.reduction)
        self.columns = Axis(tiles.tile_width, tiles.width, plan.width, plan.reduction)
        self._kept: dict[tuple[int, int], tuple[int, Pixels]] = {}  # cells, each after the row that it begins with
        self._bytes = 0
        self._parts: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def read(self, left: int, top: int, right: int, bottom: int) -> Pixels:
        """The working pixels from (left, top) up to (right, bottom)."""
        rgb = np.zeros((bottom - top, right - left, 3), np.uint8)
        scanned = None
        for row, column in product(self.rows.cells_of(top, bottom), self.columns.cells_of(left, right)):
            if not self._is_wanted(row, column):
                continue
            first, cell = self._cell(row, column, top)
            (y, down), (x, across) = ((max(low, start), min(high, end)) for low, high, start, end in (
                (top, bottom, first, self.rows.cuts[row + 1]),
                (left, right, self.columns.cuts[column], self.columns.cuts[column + 1])))
            there = np.s_[y - top:down - top, x - left:across - left]
            here = np.s_[y - first:down - first, x - self.columns.cuts[column]:across - self.columns.cuts[column]]
            rgb[there] = cell.rgb[here]
            if cell.scanned is not None:
                scanned = np.full(rgb.shape[:2], 255, np.uint8) if scanned is None else scanned
                scanned[there] = cell.scanned[here]
        return Pixels(rgb, None if scanned is None or scanned.all() else scanned)

    def forget(self, above: int, left_of: int) -> None:
        """Free the rows above `above` in the cells left of `left_of`: no window needs them again."""
        for (row, column), (first, cell) in list(self._kept.items()):
            if first < above and self.columns.cuts[column + 1] <= left_of:
                rest = self.rows.cuts[row + 1] - above
                self._keep(row, column, above, Pixels(*(part if part is None else part[-rest:].copy() for part in cell))
                           if rest > 0 else None)
        self._parts = {(row, column): parts for (row, column), parts in self._parts.items()
                       if self.rows.cuts[row + 1] >= above or self.columns.cuts[column + 1] >= left_of}

    def _keep(self, row: int, column: int, first: int, cell: Pixels | None) -> None:
        _, old = self._kept.pop((row, column), (0, None))
        self._bytes += (cell.rgb.nbytes if cell else 0) - (old.rgb.nbytes if old else 0)
        if cell:
            self._kept[row, column] = first, cell
        while self._bytes > KEPT and len(self._kept) > 1:
            self._keep(*next(iter(self._kept)), 0, None)  # the oldest

    def _cell(self, row: int, column: int, top: int) -> tuple[int, Pixels]:
        """The part of a cell that is kept, after its first row. The whole cell, if rows from `top` on are missing."""
        start = self.rows.cuts[row]
        first, cell = self._kept.get((row, column), (math.inf, None))
        if first > max(start, top):
            first, cell = start, self._read(row, column)
            self._keep(row, column, first, cell)
        return first, cell

    def _read(self, row: int, column: int) -> Pixels:
        height, width = self.rows.size(row), self.columns.size(column)
        if self.rows.simple and self.columns.simple:
            return _reduced(self.tiles.read(row, column), int(self.rows.reduction), width, height)
        colours, unscanned = (sums[:height, :width] for sums in self._sums(row, column))
        # Add the parts of this cell's pixels that lie in the cell above, the one to the left, and the one above that.
        for up, back in ((1, 0), (0, 1), (1, 1)):
            if row >= up and column >= back and self._is_wanted(row - up, column - back):
                for sums, parts in zip((colours, unscanned), self._parts_of(row - up, column - back), strict=True):
                    part = parts[0][:, self.columns.size(column - 1) if back else 0:][:, :width] if up else (
                        parts[1][:height])
                    sums[:len(part), :part.shape[1]] += part
        rgb = cv2.convertScaleAbs(colours, alpha=1 / (self.rows.reduction * self.columns.reduction))
        return Pixels(rgb, np.uint8(unscanned == 0) * 255 if unscanned.any() else None)

    def _sums(self, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the part of each pixel that lies in the cell's tiles: of its colours, and of its unscanned area."""
        rows, columns = self.rows, self.columns
        shape = rows.parts(row), columns.parts(column)
        colours, unscanned = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
        for y, x in product(rows.tiles_of(row), columns.tiles_of(column)):
            rgb, scanned = self.tiles.read(y, x)
            edges = (rows.edges(row, y, len(rgb)), columns.edges(column, x, rgb.shape[1]))
            cv2.add(colours, sums_between(rgb, *edges), colours)
            if scanned is not None:
                unscanned += sums_between(255 - scanned, *edges)
        self._parts[row, column] = [(sums[rows.size(row):].copy(), sums[:, columns.size(column):].copy())
                                    for sums in (colours, unscanned)]
        return colours, unscanned

    def _parts_of(self, row: int, column: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same sums, for pixels that end in the cell below and in the cell to the right."""
        if (row, column) not in self._parts:
            self._sums(row, column)
        return self._parts[row, column]

    def _is_wanted(self, row: int, column: int) -> bool:
        return self.wanted is None or bool(self.wanted[row, column])


def _reduced(tile: Pixels, by: int, width: int, height: int) -> Pixels:
    """Means over `by` × `by` pixels of a tile, of which `width` × `height` lie in the picture."""
    rgb, scanned = (part if part is None else part[:height * by, :width * by] for part in tile)
    if by > 1:
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        if scanned is not None:
            scanned = scanned.reshape(height, by, width, by).min(axis=(1, 3))
    return Pixels(rgb, scanned)


def sums_between(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums over the rectangles between edges, which may lie within a pixel: float32 (rows - 1, columns - 1, …).

    `pixels` is uint8 (height, width) or (height, width, channels); the edges run from 0 to its height and width.
    """
    for edges in (rows, columns):
        pixels = cv2.transpose(_sums_of_rows(pixels, edges))
    return pixels


def _sums_of_rows(pixels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The sum of the rows between neighbouring edges; a row that an edge cuts counts in part."""
    low, high = edges[:-1, None], edges[1:, None]
    first = low.astype(int)
    places = first + np.arange((np.ceil(high) - first).max(initial=1))
    shares = np.float32((np.minimum(high, places + 1) - np.maximum(low, places)).clip(0))
    places = np.minimum(places, len(pixels) - 1).astype(int)
    shape = (-1, *[1] * (pixels.ndim - 1))
    sums = np.zeros((len(low), *pixels.shape[1:]), np.float32)
    part = np.empty_like(sums)
    for place, share in zip(places.T, shares.T, strict=True):
        sums += np.multiply(pixels[place], share.reshape(shape), out=part)
    return sums
