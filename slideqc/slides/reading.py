"""From a slide file to its facts and its pixels.

OpenSlide opens every format. Where a level is plain JPEG tiles in a TIFF (Aperio, generic), its pixels are read
with tifffile and simplejpeg instead: the same pixels, three to ten times sooner.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import local
from typing import NamedTuple
from weakref import WeakValueDictionary

import cv2
import numpy as np
import openslide
import simplejpeg
import tifffile
from PIL import Image

from slideqc.errors import SlideError
from slideqc.slides.magnification import Plan

BAND_BYTES = 64 << 20   # pixels in memory while a larger level is reduced
TIFF_VENDORS = {"aperio", "generic-tiff"}
RowReader = Callable[[int, int], np.ndarray]


class _Last(local):
    """What this thread read last."""

    most = 1  # pictures

    def __init__(self) -> None:
        self.pictures: deque[np.ndarray] = deque()

    def make_room(self, coming: int) -> None:
        while len(self.pictures) + coming > self.most:
            self.pictures.popleft()


_last = _Last()
_kept = WeakValueDictionary()     # what any thread read last, by slide, plan and the file's stamp

# One slide stays on one core: the parallel variants of the pipeline scale by slides.
cv2.setNumThreads(1)


class Facts(NamedTuple):
    """What a slide says of itself; small, and safe to pickle."""

    vendor: str
    objective_power: float | None
    mpp: float | None
    background: tuple[int, int, int]
    level_dimensions: list[tuple[int, int]]
    level_downsamples: list[float]


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn whatever the reading libraries raise into a SlideError that names the slide, without its folder."""
    try:
        yield
    except openslide.OpenSlideUnsupportedFormatError:
        problem = _why_no_slide(path)
    except OSError as error:
        problem = f"cannot be opened ({error.strerror or error}): is the drive still there?"
    except (openslide.OpenSlideError, ValueError) as error:  # TiffFileError is a ValueError
        problem = f"cannot be read ({error}): copy or scan it again"
    else:
        return
    problem = problem.replace(str(path), path.name).replace(str(path.parent), "")
    raise SlideError(f"{path.name} {' '.join(problem.split())}")


def read_facts(path: Path) -> Facts:
    """Open the slide, read its metadata, close it. Raises SlideError, in words."""
    with in_words(path):
        path.open("rb").close()  # says better than OpenSlide why a file cannot be opened
        with openslide.OpenSlide(path) as slide:
            properties = slide.properties
            facts = Facts(
                vendor=properties.get(openslide.PROPERTY_NAME_VENDOR, ""),
                objective_power=_positive(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
                mpp=_positive(properties.get(openslide.PROPERTY_NAME_MPP_X)),
                background=tuple(bytes.fromhex(properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF"))),
                level_dimensions=list(slide.level_dimensions),
                level_downsamples=list(slide.level_downsamples),
            )
        if facts.vendor in TIFF_VENDORS:
            _refuse_truncated(path)
    return facts


def _why_no_slide(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        return "is empty (0 bytes): copy it again"
    if start in (b"II", b"MM"):
        return "is truncated or damaged (a TIFF without a whole directory): copy it again"
    return "is not a slide in a format that OpenSlide reads: is it whole, is it a slide?"


def _positive(text: str | None) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return value if 0 < (value := float(text)) < float("inf") else None


@contextlib.contextmanager
def _tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file; afterwards its tables are free at once.

    The file and its pages refer to each other, so that the places of some 100,000 tiles would otherwise stay in
    memory until the garbage collector comes round.
    """
    with tifffile.TiffFile(path) as tiff:
        try:
            yield tiff
        finally:
            tiff.pages = None


def _refuse_truncated(path: Path) -> None:
    """A cut file may still open, and even give pixels, when the lost tiles belong to another level."""
    with _tiff(path) as tiff:
        end = max(np.add(page.dataoffsets, page.databytecounts).max(initial=0) for page in tiff.pages)
        if end > tiff.filehandle.size:
            raise SlideError(f"{path.name} is truncated (its pixels run to byte {end:,}, "
                             f"the file ends at {tiff.filehandle.size:,}): copy it again")


def read_picture(path: Path, facts: Facts, plan: Plan) -> np.ndarray:
    """The whole slide as RGB, uint8 (plan.height, plan.width, 3), read-only.

    Unscanned parts have the slide's background colour. Raises SlideError when a tile is damaged. Each thread keeps
    the picture that it read last, since the steps of the pipeline ask for the same one in turn; they may do so from
    different threads, which share what they keep.
    """
    with in_words(path):
        stamp = path.stat()
        key = (path, plan, stamp.st_mtime_ns, stamp.st_size)
        picture = _kept.get(key)
        if picture is None:
            _last.make_room(1)  # so that the old picture is gone before the new one comes
            with _row_reader(path, facts, plan.level) as read_rows:
                picture = _reduced(read_rows, facts.level_dimensions[plan.level], plan)
            picture.flags.writeable = False
            _kept[key] = picture
        if not any(picture is other for other in _last.pictures):
            _last.pictures.append(picture)
            _last.make_room(0)
        return picture


def keep(pictures: int) -> None:
    """Let each thread of this process keep so many pictures, from now on, instead of one."""
    _Last.most = pictures


def _reduced(read_rows: RowReader, dimensions: tuple[int, int], plan: Plan) -> np.ndarray:
    """Mean over `plan.reduction` × `plan.reduction` pixels, a band of rows at a time."""
    width, height = dimensions
    # A fraction is reached in two steps, the second one by 2 at least: less would soften the picture unevenly.
    whole = int(plan.reduction) if plan.reduction.is_integer() else max(1, int(plan.reduction / 2))
    if whole == 1:
        picture = read_rows(0, height)
    else:
        picture = np.empty((height // whole, width // whole, 3), np.uint8)
        step = max(1, BAND_BYTES // (width * 3 * whole * 256)) * 256
        for top in range(0, len(picture), step):
            part = picture[top:top + step]
            rows = read_rows(top * whole, (top + len(part)) * whole)
            cv2.resize(rows[:, :part.shape[1] * whole], part.shape[1::-1], part, interpolation=cv2.INTER_AREA)
    if picture.shape[:2] != (plan.height, plan.width):
        picture = cv2.resize(picture, (plan.width, plan.height), interpolation=cv2.INTER_AREA)
    return picture


@contextlib.contextmanager
def _row_reader(path: Path, facts: Facts, level: int) -> Iterator[RowReader]:
    """A function from (top, bottom) to those rows of a level, uint8 (bottom - top, width, 3)."""
    if facts.vendor in TIFF_VENDORS:
        with _tiff(path) as tiff:
            page = _jpeg_page(tiff, facts.level_dimensions[level])
            scanned_whole = all(all(other.databytecounts) for other in tiff.pages if other.is_tiled)
            if page is not None and scanned_whole:
                yield lambda top, bottom: _rows_of_tiles(page, top, bottom)
                return
            if page is not None:
                # OpenSlide knows how to fill the gaps between tiles, but lets damage in the others pass.
                for index, count in enumerate(page.databytecounts):
                    if count:
                        _decode(page, index)
    # After one read error an OpenSlide handle is dead, and it cannot be pickled: so each picture opens its own.
    with openslide.OpenSlide(path) as slide:
        yield lambda top, bottom: _rows_of_openslide(slide, facts, level, top, bottom)


def _jpeg_page(tiff: tifffile.TiffFile, dimensions: tuple[int, int]) -> tifffile.TiffPage | None:
    """The page that holds a level as whole JPEG tiles of 8-bit RGB or YCbCr; None if it is stored otherwise."""
    for page in tiff.pages:
        if (page.is_tiled and (page.imagewidth, page.imagelength) == dimensions
                and page.compression == tifffile.COMPRESSION.JPEG and page.bitspersample == 8
                and page.samplesperpixel == 3 and page.planarconfig == tifffile.PLANARCONFIG.CONTIG):
            return page
    return None


def _rows_of_tiles(page: tifffile.TiffPage, top: int, bottom: int) -> np.ndarray:
    high, wide = page.tilelength, page.tilewidth
    across = -(-page.imagewidth // wide)
    first, last = top // high, -(-bottom // high)
    rows = np.empty(((last - first) * high, across * wide, 3), np.uint8)
    for index in range(first * across, last * across):
        y, x = divmod(index - first * across, across)
        rows[y * high:(y + 1) * high, x * wide:(x + 1) * wide] = _decode(page, index)
    return rows[top - first * high:bottom - first * high, :page.imagewidth]


def _decode(page: tifffile.TiffPage, index: int) -> np.ndarray:
    """Decode one tile, strictly: libjpeg by itself paints over damaged data and says nothing.

    A tile stream lacks the tables, which TIFF keeps once a page, and the word on its colours, which TIFF keeps
    in the photometric tag: both go in between its first marker and the rest (TIFF Technical Note 2; Adobe APP14).
    """
    file = page.parent.filehandle
    file.seek(page.dataoffsets[index])
    tile = file.read(page.databytecounts[index])
    while tile[2:4] in (b"\xff\xe0", b"\xff\xee"):  # the stream's own word on its colours: OpenSlide ignores it too
        tile = tile[:2] + tile[4 + int.from_bytes(tile[4:6]):]
    coded_as_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    colours = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + (b"\x00" if coded_as_rgb else b"\x01")
    tables = (page.jpegtables or b"")[2:-2]
    return simplejpeg.decode_jpeg(tile[:2] + colours + tables + tile[2:], "RGB",
                                  fastdct=False, fastupsample=False, strict=True)


def _rows_of_openslide(slide: openslide.OpenSlide, facts: Facts, level: int, top: int, bottom: int) -> np.ndarray:
    width = facts.level_dimensions[level][0]
    # read_region takes its corner in full-size pixels, whatever the level.
    corner = (0, round(top * facts.level_downsamples[level]))
    region = slide.read_region(corner, level, (width, bottom - top))
    canvas = Image.new("RGB", region.size, facts.background)
    canvas.paste(region, mask=region.getchannel("A"))
    return np.asarray(canvas)
