"""Make small slides with one known problem each, such as a blank or a truncated slide, to test a quality control."""

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
    """Write every awkward slide to the folder, with the ground truth where there is tissue; returns their paths."""
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
    """Write a slide without a problem; `options` are those of `write_slide`."""
    defaults = {"width": WIDTH, "height": HEIGHT, "magnification": 20, "blurred": False}
    write_slide(path, seed=seed, **defaults | options)


def blank(path: Path) -> None:
    """Write a slide without tissue: glass with camera noise, uneven light, specks of dust and a fibre."""
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
    description = aperio.description(WIDTH, HEIGHT, {"AppMag": "20", "MPP": "0.4990"})
    with path.open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, aperio.smaller(picture, by), description) for by in (1, 4, 16)]
        pages.insert(1, aperio.add_thumbnail(file, picture, description))
        aperio.write_directories(file, pages)


def truncated(path: Path) -> None:
    """Write a slide and cut the file off after 60 % of its bytes."""
    good(path, seed=11)
    content = path.read_bytes()
    path.write_bytes(content[:len(content) * 6 // 10])


def unscanned_corner(path: Path) -> None:
    """Write a slide whose upper left quarter was not scanned: its tiles have no bytes, on every level."""
    # The slide is square and has two levels, so that a quarter is a whole number of tiles on both.
    good(path, seed=14, height=WIDTH, levels=(1, 4))

    def leave_out(offsets: np.ndarray, counts: np.ndarray, file: tifffile.FileHandle) -> None:
        rows, columns = (side // 2 for side in offsets.shape)
        offsets[:rows, :columns] = counts[:rows, :columns] = 0
    change_tiles(path, leave_out)


def damaged_tile(path: Path) -> None:
    """Write a slide in which the tile in the middle of every level has damaged JPEG data."""
    good(path, seed=15)

    def damage(offsets: np.ndarray, counts: np.ndarray, file: tifffile.FileHandle) -> None:
        middle = tuple(side // 2 for side in offsets.shape)
        file.seek(int(offsets[middle]))
        tile = file.read(int(counts[middle]))
        # The damaged tile is a copy at the end of the file, since equal tiles may share their bytes. It holds a second
        # start-of-frame marker: decoders tolerate wrong pixels, but not that.
        file.seek(0, 2)
        offsets[middle] = file.tell()
        file.write(tile[:len(tile) // 2] + b"\xff\xc0" * (len(tile) // 4) + tile[-2:])
    change_tiles(path, damage)


def change_tiles(path: Path, change: Callable[[np.ndarray, np.ndarray, tifffile.FileHandle], None]) -> None:
    """Change the location of tiles in the file.

    For each level, `change(offsets, counts, file)` may modify the tiles' offsets and byte counts, int (rows, columns).
    """
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
