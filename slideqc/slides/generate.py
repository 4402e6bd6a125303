"""Generate Aperio slides of any size, with the ground truth: where there is tissue, and where it is out of focus.

A slide is drawn in blocks of 256 × 256 px at 20x (512 × 512 px at 40x). A block inside one kind of tissue, or on bare
glass, is cut out of a periodic drawing. Such blocks repeat, so each is compressed only once. Only the blocks that an
edge crosses are drawn one by one. Blocks are written to level 0 as soon as they are drawn. The smaller levels are
reduced from the same blocks, so the full-size picture is never in memory as a whole.
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
MARGIN = 4                      # px around a block that the interpolation to 40x needs
SHARP_EDGE, SOFT_EDGE = 4.5, 7  # reach of an edge in working pixels (1.25x): in focus, out of focus
SHARP, BLURRED = 128, 255       # tissue in the ground truth: in focus, out of focus; 0 is glass


def generate(folder: Path, count: int, *, seed: int = 2021) -> list[Path]:
    """Write `count` slides of full size to `folder`: alternately 20x and 40x; half of them have a blurred region.

    Slides that are already there, complete and with their ground truth, are kept. Returns the paths of all slides.
    """
    paths = []
    for number in range(1, count + 1):
        magnification = 40 if number % 2 == 0 else 20
        path = folder / f"generated-{magnification}x-{number}.svs"
        if not _is_complete(path):
            width, height = SIZES[magnification]
            write_slide(path, width=width, height=height, magnification=magnification, seed=1000 * seed + number,
                        blurred=number % 4 in (2, 3))
        paths.append(path)
    return paths


def _is_complete(path: Path) -> bool:
    try:
        return truth_path(path).exists() and bool(read_facts(path))
    except SlideError:
        return False


def truth_path(slide: Path) -> Path:
    """The path of a slide's ground truth: an 8-bit PNG at 1.25x; 0 glass, 128 tissue in focus, 255 out of focus."""
    return slide.parent / "truth" / f"{slide.stem}.png"


def write_slide(path: Path, *, width: int, height: int, magnification: float, seed: int, blurred: bool = True,
                levels: Sequence[int] | None = None, stated: Sequence[str] = ("AppMag", "MPP")) -> Path:
    """Write a slide of `width` × `height` px at 20x or 40x, and its ground truth. Returns `path`.

    `levels` are the downsamples of the pyramid: 1, then any of 4, 16 and multiples of 16. The default is 1, 4, 16, and
    at 40x also 32. `stated` names the properties that the file states: AppMag (magnification), MPP (µm per pixel).
    The same arguments give the same bytes. If writing fails, no incomplete file remains.
    Raises ValueError for another magnification or other levels, OSError if the files cannot be written.
    """
    if magnification not in SIZES:
        raise ValueError(f"cannot generate a slide at {magnification:g}x: choose 20x or 40x")
    levels = tuple(levels or LEVELS[magnification])
    if (levels[0] != 1 or any(low >= high or high % low for low, high in pairwise(levels))
            or any(level % 16 for level in levels if level not in (1, 4))):
        raise ValueError(f"cannot write a pyramid of {levels}: use 1, then any of 4, 16 and multiples of 16")
    facts = {"AppMag": f"{magnification:g}", "MPP": f"{9.98 / magnification:.4f}"}
    painter = Painter(width, height, int(magnification) // 20, seed, blurred)
    truth_path(path).parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}{PART}")
    try:
        with part.open("wb") as file:
            truth = _write(file, painter, levels, {key: facts[key] for key in stated}, path.name)
        write_whole(truth_path(path), cv2.imencode(".png", truth)[1].tobytes())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


class Block(NamedTuple):
    """One block of the slide, ready to write."""

    key: tuple | None         # equal for equal blocks; None if the block does not repeat
    tiles: list[bytes]        # its tiles of level 0 as JPEG, row by row
    quarter: np.ndarray       # its pixels at a quarter of the size, uint8 (64 · zoom, 64 · zoom, 3)
    truth: np.ndarray         # its ground truth at 1.25x, uint8 (16, 16)


class Band(NamedTuple):
    """Rows of blocks that together are one row of tiles at a quarter of the size."""

    full: list[list[tuple[list[bytes], bool]]]  # by row and column: the tiles of a block, and whether they repeat
    quarter: list[tuple[bytes, bool]]           # tiles at a quarter of the size, and whether they repeat
    sixteenth: np.ndarray                       # pixels at a sixteenth of the size, uint8 (height, width, 3)
    truth: np.ndarray                           # uint8 (height, width), 16 × 16 px for each block


class Painter:
    """Draws the blocks of one slide. `zoom` is 1 at 20x and 2 at 40x."""

    def __init__(self, width: int, height: int, zoom: int, seed: int, blurred: bool) -> None:
        self.size, self.zoom = (width, height), zoom
        self.group = 4 // zoom  # height and width, in blocks, of a tile at a quarter of the size
        self.rows, self.columns = (-(-side // (TILE * zoom)) for side in (height, width))
        self.period = 2048 if max(width, height) > 8192 * zoom else 1024
        stroma_rng, gland_rng, scene_rng, edge_rng = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4))
        # Laboratories stain differently, and stroma varies within a slide: two tints for stroma, one for glands.
        tints = np.float32(stroma_rng.uniform(0.87, 1.13, 2) * [[1, 1.1], [1.2, 0.9], [1, 1]])

        def draw(kind: Callable, rng: np.random.Generator, *tints: np.ndarray) -> list[list[np.ndarray]]:
            """Draw one kind of tissue: pictures by focus (sharp, soft) and tint."""
            stains = kind(rng, self.period)
            sharp = [texture.stained(*stains, tint) for tint in tints]
            soft = [texture.out_of_focus(each) for each in sharp] if blurred else sharp
            return [[self._with_margin(each) for each in pictures] for pictures in (sharp, soft)]

        with ThreadPoolExecutor(2) as pool:
            stroma = pool.submit(draw, texture.stroma, stroma_rng, *tints[:2])
            glands = pool.submit(draw, texture.glands, gland_rng, tints[2])
            # One working pixel more on each side: the interpolation at the edge of a block needs it.
            scene = pool.submit(texture.scene, scene_rng, self.rows * 16 + 2, self.columns * 16 + 2, blurred)
            # Key: out of focus, gland (otherwise stroma), turned by 90°, mirrored. Turned stroma has the second tint.
            self.pictures = {}
            for soft, (fibres, (cells,)) in enumerate(zip(stroma.result(), glands.result(), strict=True)):
                for gland, turned in product((0, 1), repeat=2):
                    picture = cells if gland else fibres[turned]
                    picture = cv2.transpose(picture) if turned else picture
                    self.pictures[soft, gland, turned, 0] = picture
                    self.pictures[soft, gland, turned, 1] = cv2.flip(picture, -1)
            self.scene = scene.result()
        self.glass = self._with_margin(texture.glass(gland_rng, 512))
        self.frays = self._with_margin(texture.fractal(edge_rng, (1024, 1024), 96, 5, 0.65, periodic=True).clip(-2, 2))
        # The smallest and the largest signed distance to an edge in every block: (maps, rows, columns).
        windows = [np.lib.stride_tricks.sliding_window_view(each, (18, 18))[::16, ::16] for each in self.scene]
        self.least, self.most = (np.stack([bound(each, (2, 3)) for each in windows]) for bound in (np.min, np.max))
        self.block_cache: dict[tuple, Block] = {}
        self.group_cache: dict[tuple, tuple[bytes, np.ndarray, bool]] = {}

    @staticmethod
    def _with_margin(picture: np.ndarray) -> np.ndarray:
        """Continue a periodic picture by `MARGIN` px on each side."""
        return cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_WRAP)

    def _cut(self, picture: np.ndarray, row: int, column: int) -> np.ndarray:
        """The part of a periodic picture that belongs to a block, with its margin."""
        top, left = (at * TILE % (side - 2 * MARGIN) for at, side in zip((row, column), picture.shape, strict=False))
        return picture[top:top + TILE + 2 * MARGIN, left:left + TILE + 2 * MARGIN]

    def band(self, top: int) -> Band:
        """Draw `group` rows of blocks from row `top` on, and reduce them to a quarter and a sixteenth of the size."""
        rows = range(top, min(top + self.group, self.rows))
        blocks = [[self.block(row, column) for column in range(self.columns)] for row in rows]
        quarter = [self._quarter_tile([each[left:left + self.group] for each in blocks])
                   for left in range(0, self.columns, self.group)]
        return Band([[(block.tiles, block.key is not None) for block in row] for row in blocks],
                    [(tile, repeats) for tile, _, repeats in quarter],
                    cv2.hconcat([pixels for _, pixels, _ in quarter]),
                    np.vstack([np.hstack([block.truth for block in row]) for row in blocks]))

    def _quarter_tile(self, blocks: list[list[Block]]) -> tuple[bytes, np.ndarray, bool]:
        """The tile at a quarter of the size: as JPEG; its pixels at a sixteenth of the size; whether it repeats."""
        key = tuple(block.key for row in blocks for block in row)
        if key in self.group_cache:
            return self.group_cache[key]
        pixels = cv2.vconcat([cv2.hconcat([block.quarter for block in row]) for row in blocks])
        size = tuple(side // 4 for side in pixels.shape[1::-1])
        made = jpeg(next(tiles(pixels))), cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), None not in key
        return self.group_cache.setdefault(key, made) if None not in key else made

    def block(self, row: int, column: int) -> Block:
        """Draw a block, or take it from the cache."""
        least, most = self.least[:, row, column], self.most[:, row, column]
        near = SHARP_EDGE if most[-1] < -SHARP_EDGE else SOFT_EDGE
        if most[0] <= -near:
            key = (row % 2, column % 2)
        elif ((least < near) & (most > -near)).any():
            return self._encoded(None, *self._with_edges(row, column, near))
        else:
            period = self.period // TILE
            key = (row % period, column % period, *(float(each > 0) for each in least[1:]))
        if key not in self.block_cache:
            if len(key) == 2:
                picture, truth = self._cut(self.glass, row, column), 0
            else:
                *kind, soft = key[2:]
                picture, truth = self._tissue(row, column, kind, (int(soft),)), BLURRED if soft else SHARP
            self.block_cache[key] = self._encoded(key, picture, np.full((16, 16), truth, np.uint8))
        return self.block_cache[key]

    def _with_edges(self, row: int, column: int, near: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw a block that an edge crosses: its pixels with margin, and its ground truth."""
        *maps, defocus = (self._distance(number, row, column, near) for number in range(len(self.scene)))
        blur = ramp(defocus, 3.5)
        if isinstance(blur, float):
            picture, cover = self._one_focus(row, column, *maps, soft=int(blur))
        else:
            sharp, soft = (self._one_focus(row, column, *maps, soft=soft) for soft in (0, 1))
            picture, cover = blend(sharp[0], soft[0], blur), sharp[1] * (1 - blur) + soft[1] * blur
        cover, blur = (cv2.resize(each[MARGIN:-MARGIN, MARGIN:-MARGIN], (16, 16), interpolation=cv2.INTER_AREA)
                       if isinstance(each, np.ndarray) else each for each in (cover, blur))
        truth = np.where(cover < 0.5, 0, np.where(blur < 0.5, SHARP, BLURRED))
        return picture, np.uint8(np.broadcast_to(truth, (16, 16)))

    def _distance(self, number: int, row: int, column: int, near: float) -> np.ndarray | float:
        """One distance map of the scene, for every pixel of a block; ±infinity if no edge is near."""
        if self.least[number, row, column] >= near:
            return np.inf
        if self.most[number, row, column] <= -near:
            return -np.inf
        here = self.scene[number][row * 16:row * 16 + 18, column * 16:column * 16 + 18]
        inner = slice(texture.WORK - MARGIN, MARGIN - texture.WORK)
        return cv2.resize(here, None, fx=texture.WORK, fy=texture.WORK)[inner, inner]

    def _one_focus(self, row: int, column: int, *maps: np.ndarray | float,
                   soft: int) -> tuple[np.ndarray, np.ndarray | float]:
        """Draw tissue on glass, all in focus or all out of focus: the pixels, and the tissue's share of each, 0–1."""
        frays = self._cut(self.frays, row, column)
        amounts, widths = ((0, 0, 0, 0), (4, 4, 4, 4)) if soft else ((1, 2, 1.5, 1.5), (0.12, 0.4, 1.5, 1.5))
        cover, *weights = (ramp(each if isinstance(each, float) else each + amount * frays, width)
                           for each, amount, width in zip(maps, amounts, widths, strict=True))
        picture = self._tissue(row, column, weights, (soft,))
        return blend(self._cut(self.glass, row, column), picture, cover), cover

    def _tissue(self, row: int, column: int, weights: Sequence[np.ndarray | float],
                kind: tuple[int, ...]) -> np.ndarray:
        """Blend the pictures whose keys begin with `kind`; each weight, 0–1, belongs to one further part of the key."""
        if not weights:
            return self._cut(self.pictures[kind], row, column)
        weight, *others = weights
        if isinstance(weight, float):
            return self._tissue(row, column, others, (*kind, int(weight)))
        return blend(*(self._tissue(row, column, others, (*kind, each)) for each in (0, 1)), weight)

    def _encoded(self, key: tuple | None, picture: np.ndarray, truth: np.ndarray) -> Block:
        """Enlarge a drawn block to the slide's magnification, encode its tiles, and reduce it to a quarter."""
        if self.zoom > 1:
            picture = cv2.resize(picture, None, fx=self.zoom, fy=self.zoom, interpolation=cv2.INTER_LINEAR)
        side, start = TILE * self.zoom, MARGIN * self.zoom
        picture = picture[start:start + side, start:start + side]
        quarter = cv2.resize(picture, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
        return Block(key, [jpeg(tile) for tile in tiles(picture)], quarter, truth)


def ramp(distance: np.ndarray | float, width: float) -> np.ndarray | float:
    """A smooth step: 0 where `distance` is below -width, 1 where it is above width. Array float32, or one float."""
    if isinstance(distance, float):
        return float(distance > 0)
    linear = np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0, 1)
    return linear * linear * (3 - 2 * linear)


def blend(below: np.ndarray, above: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """Blend two pictures, uint8 (height, width, 3); `weight`, float32 (height, width), is the share of `above`, 0–1."""
    if isinstance(weight, float):
        return above if weight else below
    return cv2.blendLinear(below, above, 1 - weight, weight)


def _write(file: BinaryIO, painter: Painter, levels: Sequence[int], facts: dict[str, str], name: str) -> np.ndarray:
    """Write the slide to `file`; returns its ground truth at 1.25x, uint8 (height, width)."""
    (width, height), zoom = painter.size, painter.zoom
    description = aperio.description(width, height, facts)
    full, quarter = Page(width, height, description), Page(width // 4, height // 4, description)
    sixteenth, truth = [], []
    file.write(aperio.HEADER)
    tops = range(0, painter.rows, painter.group)
    # closing() cancels the bands that are not drawn yet, after Ctrl-C or on a full disk.
    with ThreadPoolExecutor(2) as pool, closing(pool.map(painter.band, tops)) as bands:
        progress = tqdm(bands, name, len(tops), unit=" rows of tiles", disable=None)
        for number, (top, band) in enumerate(zip(tops, progress, strict=True)):
            for row, blocks in enumerate(band.full, top):
                for column, (block_tiles, repeats) in enumerate(blocks):
                    for i, tile in enumerate(block_tiles):
                        full.write(file, row * zoom + i // zoom, column * zoom + i % zoom, tile, repeats)
            for column, (tile, repeats) in enumerate(band.quarter if 4 in levels else []):
                quarter.write(file, number, column, tile, repeats)
            sixteenth.append(band.sixteenth)
            truth.append(band.truth)
    pages = [full, *([quarter] if 4 in levels else [])]
    picture, by = np.vstack(sixteenth)[:height // 4 // 4, :width // 4 // 4], 16
    for level in [each for each in levels if each >= 16]:
        picture, by = smaller(picture, level // by), level
        pages.append(aperio.add_level(file, picture, description))
    pages.insert(1, aperio.add_thumbnail(file, picture, description))
    aperio.write_directories(file, pages)
    return np.vstack(truth)[:height // 16 // zoom, :width // 16 // zoom]
