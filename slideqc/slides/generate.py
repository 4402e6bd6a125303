"""Whole Aperio slides of any size, drawn instead of scanned, with the truth about tissue and focus beside them.

The picture is made of blocks of 256 × 256 px at 20x (twice that at 40x). A block well inside one kind of tissue, or on
bare glass, is a piece of a periodic drawing, so it is made and compressed once; only blocks that an edge runs through
are made one by one. Level 0 is written as it comes, the smaller levels are reduced from it on the way.
"""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise, product
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from slideqc.errors import SlideError
from slideqc.files import PART, write_whole
from slideqc.slides import aperio, texture
from slideqc.slides.aperio import TILE, Page, jpeg, smaller, tiles
from slideqc.slides.reading import read_facts

SIZES = {20: (46000, 32914), 40: (92000, 65828)}
LEVELS = {20: (1, 4, 16), 40: (1, 4, 16, 32)}
MARGIN = 4                      # px around a block that enlarging to 40x looks at
SHARP_EDGE, SOFT_EDGE = 4.5, 7  # working pixels in which edges are over, in focus and out of it
SHARP, BLURRED = 128, 255       # in the truth; 0 is glass


def generate(folder: Path, count: int, *, seed: int = 2021) -> list[Path]:
    """Make `count` slides of full size, 20x and 40x in turn, of either some all in focus and some not.

    Slides that are there whole, with their truth, stay as they are. Returns the paths of all.
    """
    paths = []
    for number in range(1, count + 1):
        magnification = 40 if number % 2 == 0 else 20
        path = folder / f"generated-{magnification}x-{number}.svs"
        if not _is_whole(path):
            width, height = SIZES[magnification]
            write_slide(path, width=width, height=height, magnification=magnification, seed=1000 * seed + number,
                        blurred=number % 4 in (2, 3))
        paths.append(path)
    return paths


def _is_whole(path: Path) -> bool:
    try:
        return truth_path(path).exists() and bool(read_facts(path))
    except SlideError:
        return False


def truth_path(slide: Path) -> Path:
    """Where the truth of a slide is: 8-bit, at 1.25x; 0 glass, 128 tissue in focus, 255 tissue out of focus."""
    return slide.parent / "truth" / f"{slide.stem}.png"


def write_slide(path: Path, *, width: int, height: int, magnification: float, seed: int, blurred: bool = True,
                levels: Sequence[int] | None = None, stated: Sequence[str] = ("AppMag", "MPP")) -> Path:
    """Write a slide of `width` × `height` px at 20x or 40x, and its truth; both appear whole or not at all.

    `levels` are the downsamples of its pyramid: 1, then any of 4, 16 and multiples of 16 (default: 1, 4, 16, at 40x
    also 32). `stated` are the facts that the slide tells of itself. The same arguments give the same bytes.
    """
    if magnification not in SIZES:
        raise ValueError(f"slides are made at 20x or 40x, not at {magnification:g}x")
    levels = tuple(levels or LEVELS[magnification])
    if (levels[0] != 1 or any(low >= high or high % low for low, high in pairwise(levels))
            or any(level % 16 for level in levels if level not in (1, 4))):
        raise ValueError(f"no pyramid of {levels}: it has 1, then 4 or not, then 16 and its multiples or not")
    facts = {"AppMag": f"{magnification:g}", "MPP": f"{9.98 / magnification:.4f}"}
    painter = Painter(width, height, int(magnification) // 20, seed, blurred)
    truth_path(path).parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}{PART}")
    try:
        with aside.open("wb") as file:
            truth = _write(file, painter, levels, {key: facts[key] for key in stated}, path.name)
        write_whole(truth_path(path), cv2.imencode(".png", truth)[1].tobytes())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return path


class Block(NamedTuple):
    """One block of the slide, ready to write."""

    key: tuple | None         # blocks of the same key are the same; None if there is only this one
    tiles: list[bytes]        # level 0, JPEG, row by row
    quarter: np.ndarray       # its pixels at a quarter of the size, uint8
    truth: np.ndarray         # uint8 (16, 16)


class Band(NamedTuple):
    """Some rows of blocks, one row of tiles of the next level."""

    full: list[list[tuple[list[bytes], bool]]]  # by row and column: a block's tiles, and whether they may come again
    quarter: list[tuple[bytes, bool]]           # the same of the next level's tiles
    sixteenth: np.ndarray                       # pixels of the level after that, uint8
    truth: np.ndarray                           # uint8, 16 rows and columns a block


class Painter:
    """Draws any block of one slide. `zoom` is 1 at 20x and 2 at 40x."""

    def __init__(self, width: int, height: int, zoom: int, seed: int, blurred: bool) -> None:
        self.size, self.zoom = (width, height), zoom
        self.group = 4 // zoom  # a tile of the next level is so many blocks high and wide
        self.rows, self.columns = (-(-side // (TILE * zoom)) for side in (height, width))
        self.period = 2048 if max(width, height) > 8192 * zoom else 1024
        draws, others, places, edges = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4))
        # Tissue differs from laboratory to laboratory, and stroma from place to place.
        tints = np.float32(draws.uniform(0.87, 1.13, 2) * [[1, 1.1], [1.2, 0.9], [1, 1]])

        def draw(kind: Callable, rng: np.random.Generator, *tints: np.ndarray) -> list[list[np.ndarray]]:
            stains = kind(rng, self.period)
            sharp = [texture.stained(*stains, tint) for tint in tints]
            soft = [texture.out_of_focus(each) for each in sharp] if blurred else sharp
            return [[self._wrapped(each) for each in pictures] for pictures in (sharp, soft)]

        with ThreadPoolExecutor(2) as pool:
            stroma = pool.submit(draw, texture.stroma, draws, *tints[:2])
            glands = pool.submit(draw, texture.glands, others, tints[2])
            # One pixel more on each side, for the working pixels that a block's edge lies between.
            scene = pool.submit(texture.scene, places, self.rows * 16 + 2, self.columns * 16 + 2, blurred)
            # By focus, glands or stroma, turned, mirrored. Where it is turned, the stroma is looser.
            self.pictures = {}
            for soft, (fibres, (cells,)) in enumerate(zip(stroma.result(), glands.result(), strict=True)):
                for gland, turned in product((0, 1), repeat=2):
                    picture = cells if gland else fibres[turned]
                    picture = cv2.transpose(picture) if turned else picture
                    self.pictures[soft, gland, turned, 0] = picture
                    self.pictures[soft, gland, turned, 1] = cv2.flip(picture, -1)
            self.scene = scene.result()
        self.glass = self._wrapped(texture.glass(others, 512))
        self.frays = self._wrapped(texture.fractal(edges, (1024, 1024), 96, 5, 0.65, periodic=True).clip(-2, 2))
        # The least and the greatest distance to an edge in every block, by map: (maps, rows, columns).
        windows = [np.lib.stride_tricks.sliding_window_view(each, (18, 18))[::16, ::16] for each in self.scene]
        self.least, self.most = (np.stack([bound(each, (2, 3)) for each in windows]) for bound in (np.min, np.max))
        self.known: dict[tuple, Block] = {}
        self.known_groups: dict[tuple, tuple[bytes, np.ndarray, bool]] = {}

    @staticmethod
    def _wrapped(picture: np.ndarray) -> np.ndarray:
        return cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_WRAP)

    def _piece(self, picture: np.ndarray, row: int, column: int) -> np.ndarray:
        """The part of a periodic picture that a block shows, with its margin."""
        top, left = (at * TILE % (side - 2 * MARGIN) for at, side in zip((row, column), picture.shape, strict=False))
        return picture[top:top + TILE + 2 * MARGIN, left:left + TILE + 2 * MARGIN]

    def band(self, top: int) -> Band:
        """Draw the blocks of `group` rows, and reduce them to a row of tiles of the next level and of the one after."""
        rows = range(top, min(top + self.group, self.rows))
        blocks = [[self.block(row, column) for column in range(self.columns)] for row in rows]
        quarter = [self._reduced([each[left:left + self.group] for each in blocks])
                   for left in range(0, self.columns, self.group)]
        return Band([[(block.tiles, block.key is not None) for block in row] for row in blocks],
                    [(tile, repeats) for tile, _, repeats in quarter],
                    cv2.hconcat([pixels for _, pixels, _ in quarter]),
                    np.vstack([np.hstack([block.truth for block in row]) for row in blocks]))

    def _reduced(self, blocks: list[list[Block]]) -> tuple[bytes, np.ndarray, bool]:
        """The next level's tile over these blocks: compressed, reduced once more, and whether it may come again."""
        key = tuple(block.key for row in blocks for block in row)
        if key in self.known_groups:
            return self.known_groups[key]
        pixels = cv2.vconcat([cv2.hconcat([block.quarter for block in row]) for row in blocks])
        size = tuple(side // 4 for side in pixels.shape[1::-1])
        made = jpeg(next(tiles(pixels))), cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), None not in key
        return self.known_groups.setdefault(key, made) if None not in key else made

    def block(self, row: int, column: int) -> Block:
        """Draw a block, or take it from those that are known."""
        least, most = self.least[:, row, column], self.most[:, row, column]
        near = SHARP_EDGE if most[-1] < -SHARP_EDGE else SOFT_EDGE
        if most[0] <= -near:
            key = (row % 2, column % 2)
        elif ((least < near) & (most > -near)).any():
            return self._finished(None, *self._mixed(row, column, near))
        else:
            period = self.period // TILE
            key = (row % period, column % period, *(float(each > 0) for each in least[1:]))
        if key not in self.known:
            if len(key) == 2:
                picture, truth = self._piece(self.glass, row, column), 0
            else:
                *kind, soft = key[2:]
                picture, truth = self._tissue(row, column, kind, (int(soft),)), BLURRED if soft else SHARP
            self.known[key] = self._finished(key, picture, np.full((16, 16), truth, np.uint8))
        return self.known[key]

    def _mixed(self, row: int, column: int, near: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw a block that edges run through: its pixels with margin, and its truth."""
        *maps, defocus = (self._distance(number, row, column, near) for number in range(len(self.scene)))
        blur = ramp(defocus, 3.5)
        if isinstance(blur, float):
            picture, cover = self._in_focus(row, column, *maps, soft=int(blur))
        else:
            sharp, soft = (self._in_focus(row, column, *maps, soft=soft) for soft in (0, 1))
            picture, cover = over(sharp[0], soft[0], blur), sharp[1] * (1 - blur) + soft[1] * blur
        cover, blur = (cv2.resize(each[MARGIN:-MARGIN, MARGIN:-MARGIN], (16, 16), interpolation=cv2.INTER_AREA)
                       if isinstance(each, np.ndarray) else each for each in (cover, blur))
        truth = np.where(cover < 0.5, 0, np.where(blur < 0.5, SHARP, BLURRED))
        return picture, np.uint8(np.broadcast_to(truth, (16, 16)))

    def _distance(self, number: int, row: int, column: int, near: float) -> np.ndarray | float:
        """One map of the scene for a block's every pixel; a single number where no edge comes near."""
        if self.least[number, row, column] >= near:
            return np.inf
        if self.most[number, row, column] <= -near:
            return -np.inf
        here = self.scene[number][row * 16:row * 16 + 18, column * 16:column * 16 + 18]
        inner = slice(texture.WORK - MARGIN, MARGIN - texture.WORK)
        return cv2.resize(here, None, fx=texture.WORK, fy=texture.WORK)[inner, inner]

    def _in_focus(self, row: int, column: int, *places: np.ndarray | float,
                  soft: int) -> tuple[np.ndarray, np.ndarray | float]:
        """Tissue on glass, all in focus or all out of it: the pixels, and how far the tissue covers them."""
        frays = self._piece(self.frays, row, column)
        amounts, widths = ((0, 0, 0, 0), (4, 4, 4, 4)) if soft else ((1, 2, 1.5, 1.5), (0.12, 0.4, 1.5, 1.5))
        cover, *weights = (ramp(each if isinstance(each, float) else each + amount * frays, width)
                           for each, amount, width in zip(places, amounts, widths, strict=True))
        picture = self._tissue(row, column, weights, (soft,))
        return over(self._piece(self.glass, row, column), picture, cover), cover

    def _tissue(self, row: int, column: int, weights: Sequence[np.ndarray | float],
                kind: tuple[int, ...]) -> np.ndarray:
        """Mix the pictures whose keys begin with `kind`, by the weights of what comes after in their keys."""
        if not weights:
            return self._piece(self.pictures[kind], row, column)
        weight, *others = weights
        if isinstance(weight, float):
            return self._tissue(row, column, others, (*kind, int(weight)))
        return over(*(self._tissue(row, column, others, (*kind, each)) for each in (0, 1)), weight)

    def _finished(self, key: tuple | None, picture: np.ndarray, truth: np.ndarray) -> Block:
        """Enlarge and compress what was drawn, and reduce it for the next level."""
        if self.zoom > 1:
            picture = cv2.resize(picture, None, fx=self.zoom, fy=self.zoom, interpolation=cv2.INTER_LINEAR)
        side, start = TILE * self.zoom, MARGIN * self.zoom
        picture = picture[start:start + side, start:start + side]
        quarter = cv2.resize(picture, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
        return Block(key, [jpeg(tile) for tile in tiles(picture)], quarter, truth)


def ramp(distance: np.ndarray | float, width: float) -> np.ndarray | float:
    """0 where `distance` is below -width, 1 above it, smooth between; float32, or a number for a number."""
    if isinstance(distance, float):
        return float(distance > 0)
    part = np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0, 1)
    return part * part * (3 - 2 * part)


def over(below: np.ndarray, above: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """Mix two pictures, uint8 (height, width, 3), by the weight (height, width), 0–1, of the one above."""
    if isinstance(weight, float):
        return above if weight else below
    return cv2.blendLinear(below, above, 1 - weight, weight)


def _write(file: BinaryIO, painter: Painter, levels: Sequence[int], facts: dict[str, str], name: str) -> np.ndarray:
    """Write the whole slide; returns its truth, uint8, at 1.25x."""
    (width, height), zoom = painter.size, painter.zoom
    words = aperio.description(width, height, facts)
    full, quarter = Page(width, height, words), Page(width // 4, height // 4, words)
    sixteenth, truth = [], []
    file.write(aperio.HEADER)
    tops = range(0, painter.rows, painter.group)
    # Closing the bands drops those that nobody waits for any more, on Ctrl-C or on a full disk.
    with ThreadPoolExecutor(2) as pool, closing(pool.map(painter.band, tops)) as bands:
        shown = tqdm(bands, name, len(tops), unit=" rows of tiles", disable=None)
        for number, (top, band) in enumerate(zip(tops, shown, strict=True)):
            for row, blocks in enumerate(band.full, top):
                for column, (pieces, repeats) in enumerate(blocks):
                    for i, tile in enumerate(pieces):
                        full.write(file, row * zoom + i // zoom, column * zoom + i % zoom, tile, repeats)
            for column, (tile, repeats) in enumerate(band.quarter if 4 in levels else []):
                quarter.write(file, number, column, tile, repeats)
            sixteenth.append(band.sixteenth)
            truth.append(band.truth)
    pages = [full, *([quarter] if 4 in levels else [])]
    picture, by = np.vstack(sixteenth)[:height // 4 // 4, :width // 4 // 4], 16
    for level in [each for each in levels if each >= 16]:
        picture, by = smaller(picture, level // by), level
        pages.append(aperio.add_level(file, picture, words))
    pages.insert(1, aperio.add_thumbnail(file, picture, words))
    aperio.write_directories(file, pages)
    return np.vstack(truth)[:height // 16 // zoom, :width // 16 // zoom]
