"""Small slides that are awkward on purpose, one kind of trouble each: what a quality control has to live with."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import tifffile

from slideqc.slides import aperio
from slideqc.slides.generate import truth_path, write_slide
from slideqc.slides.texture import GLASS

WIDTH, HEIGHT = 2048, 1536


def plant(folder: Path) -> list[Path]:
    """Make every awkward slide in the folder, and the truth of those that hold tissue; returns their paths."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".planted", dir=folder) as scratch:
        for name, make in SLIDES.items():
            made = Path(scratch) / f"planted-{name}.svs"
            make(made)
            paths.append(folder / made.name)
            if truth_path(made).exists():
                truth_path(paths[-1]).parent.mkdir(exist_ok=True)
                truth_path(made).replace(truth_path(paths[-1]))
            made.replace(paths[-1])
    return paths


def good(path: Path, seed: int, **options: object) -> None:
    """An ordinary slide, to be spoilt; `options` as in `write_slide`."""
    usual = {"width": WIDTH, "height": HEIGHT, "magnification": 20, "blurred": False}
    write_slide(path, seed=seed, **usual | options)


def blank(path: Path) -> None:
    """Glass: the camera's noise, light that fades to one side, specks of dust and a fibre; no tissue."""
    rng = np.random.default_rng(5)
    picture = np.full((HEIGHT, WIDTH), GLASS, np.float32) - np.linspace(0, 8, WIDTH, dtype=np.float32)
    picture += rng.normal(0, 1.5, picture.shape)
    dust = np.zeros_like(picture)
    for x, y, radius in rng.integers((0, 0, 2), (WIDTH, HEIGHT, 14), (40, 3)).tolist():
        cv2.ellipse(dust, (x, y), (radius, 2 + radius // 2), radius * 40, 0, 360, 90 + 5 * radius, -1)
    along = np.linspace(0, 1, 60)
    fibre = np.stack([300 + 700 * along, 900 + 150 * np.sin(5 * along) - 400 * along], 1)
    cv2.polylines(dust, [np.int32(fibre)], False, 100, 5, cv2.LINE_AA)
    picture -= cv2.GaussianBlur(dust, (0, 0), 1.2)
    picture = cv2.merge([np.uint8(picture.clip(0, 255))] * 3)
    words = aperio.description(WIDTH, HEIGHT, {"AppMag": "20", "MPP": "0.4990"})
    with path.open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, aperio.smaller(picture, by), words) for by in (1, 4, 16)]
        pages.insert(1, aperio.add_thumbnail(file, picture, words))
        aperio.write_directories(file, pages)


def truncated(path: Path) -> None:
    """A copy that stopped at 60 % of the bytes."""
    good(path, seed=11)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) * 6 // 10])


def unscanned_corner(path: Path) -> None:
    """The scanner left out the upper left quarter: there, tiles have no bytes, on every level."""
    # Two levels, square: so the quarter is a whole number of tiles on each of them.
    good(path, seed=14, height=WIDTH, levels=(1, 4))

    def leave_out(offsets: np.ndarray, counts: np.ndarray, file: tifffile.FileHandle) -> None:
        rows, columns = (side // 2 for side in offsets.shape)
        offsets[:rows, :columns] = counts[:rows, :columns] = 0
    change_tiles(path, leave_out)


def damaged_tile(path: Path) -> None:
    """In the middle of every level, one tile's compressed pixels end in other bytes."""
    good(path, seed=15)

    def damage(offsets: np.ndarray, counts: np.ndarray, file: tifffile.FileHandle) -> None:
        middle = tuple(side // 2 for side in offsets.shape)
        file.seek(int(offsets[middle]))
        tile = file.read(int(counts[middle]))
        # A copy is damaged, since tiles that look the same may share their bytes. The marker in it says that
        # another picture begins: a decoder may paint over wrong pixels, but not over that.
        file.seek(0, 2)
        offsets[middle] = file.tell()
        file.write(tile[:len(tile) // 2] + b"\xff\xc0" * (len(tile) // 4) + tile[-2:])
    change_tiles(path, damage)


def change_tiles(path: Path, change: Callable[[np.ndarray, np.ndarray, tifffile.FileHandle], None]) -> None:
    """Let `change` alter where the tiles of each level lie: their offsets and byte counts, by row and column."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            if page.is_tiled:
                across = -(-page.imagewidth // page.tilewidth)
                tags = [page.tags[name] for name in ("TileOffsets", "TileByteCounts")]
                offsets, counts = (np.array(tag.value).reshape(-1, across) for tag in tags)
                change(offsets, counts, tiff.filehandle)
                for tag, values in zip(tags, (offsets, counts), strict=True):
                    tag.overwrite(values.ravel().tolist())


SLIDES: dict[str, Callable[[Path], None]] = {
    "blank": blank,
    "truncated": truncated,
    "no-magnification": lambda path: good(path, seed=12, stated=()),
    "only-pixel-size": lambda path: good(path, seed=13, stated=("MPP",)),
    "unscanned-corner": unscanned_corner,
    "damaged-tile": damaged_tile,
}
