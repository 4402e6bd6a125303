"""Every format that BaseImage promises to read, against OpenSlide's own pixels.

OpenSlide is the independent reference: whole levels through `read_region`, on the slide's background colour, and
reduced by area means where no level has the asked size.
"""

import os
import pickle
import re
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import openslide
import pytest
from PIL import Image
from skimage.data import immunohistochemistry

import formats
import pipeline
from BaseImage import BaseImage
from slideqc.errors import SlideError
from slideqc.slides import levels, tiles

LEVELS = (1, 4, 16)
FILL = (240, 241, 243)  # no scanner's default, so that a test sees where it comes from


class Format(NamedTuple):
    """How a slide is written, and what OpenSlide makes of it."""

    name: str
    ending: str
    vendor: str
    write: Callable[..., Path]
    options: dict = {}  # noqa: RUF012 — never written to


FORMATS = [
    Format("aperio JPEG 4:2:0", "svs", "aperio", formats.aperio_jpeg),
    Format("aperio JPEG 4:2:2", "svs", "aperio", formats.aperio_jpeg, {"subsampling": "422"}),
    Format("aperio JPEG, tables once a page", "svs", "aperio", formats.aperio_jpeg, {"shared_tables": True}),
    Format("aperio JPEG of RGB", "svs", "aperio", formats.aperio_jpeg_rgb),
    Format("aperio JPEG of RGB, marked", "svs", "aperio", formats.aperio_jpeg_rgb, {"bare": False}),
    Format("aperio JPEG 2000 33005", "svs", "aperio", formats.aperio_j2k_33005),
    Format("aperio JPEG 2000 33003", "svs", "aperio", formats.aperio_j2k_33003),
    Format("generic JPEG", "tif", "generic-tiff", formats.generic_tiff),
    Format("generic deflate", "tif", "generic-tiff", formats.generic_tiff, {"compression": "zlib"}),
    Format("ndpi with restart markers", "ndpi", "hamamatsu", formats.ndpi),
    Format("ndpi without", "ndpi", "hamamatsu", formats.ndpi, {"restarts": False}),
    Format("DICOM", "dcm", "dicom", formats.dicom),
    Format("mrxs", "mrxs", "mirax", formats.mrxs),
    Format("mrxs with an unscanned corner", "mrxs", "mirax", formats.mrxs, {"unscanned": (512, 512), "fill": FILL}),
]
FAST = {"aperio JPEG 4:2:0", "aperio JPEG 4:2:2", "aperio JPEG, tables once a page", "aperio JPEG of RGB",
        "aperio JPEG of RGB, marked", "generic JPEG"}  # read without OpenSlide
each_format = pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
# Sides that are no multiples of a tile, of a JPEG block, or of any downsample.
ODD = (slice(0, 1017), slice(0, 1525))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Stained tissue, 1024×1536, with glass around it: two by three pieces of what OpenSlide is asked for at a time."""
    patch = immunohistochemistry()
    row = np.hstack([patch, patch[:, ::-1], patch])
    tissue = np.vstack([row, row[::-1]])[:900, :900]
    return cv2.copyMakeBorder(tissue, 62, 62, 318, 318, cv2.BORDER_CONSTANT, value=(255, 255, 255))


@pytest.fixture(scope="module")
def slide_of(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a slide of a format once, however many tests ask for it; each lies in a folder of its own."""
    written: dict[tuple, Path] = {}

    def write(kind: Format, downsamples: tuple[int, ...] = LEVELS, odd: bool = False) -> Path:
        key = kind.name, downsamples, odd
        if key not in written:
            path = tmp_path_factory.mktemp("slide") / f"slide.{kind.ending}"
            written[key] = kind.write(path, np.ascontiguousarray(picture[ODD]) if odd else picture, downsamples,
                                      **kind.options)
        return written[key]
    return write


def touch(*paths: Path) -> None:
    """Make the files newer, so that pictures which were kept are read again."""
    for path in paths:
        now = path.stat().st_mtime_ns + 1_000_000_000
        os.utime(path, ns=(now, now))


def reference(path: Path, level: int, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """A whole level as OpenSlide reads it, on the background colour."""
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((0, 0), level, slide.level_dimensions[level])
    canvas = Image.new("RGB", region.size, background)
    canvas.paste(region, mask=region.getchannel("A"))
    return np.asarray(canvas)


def farthest(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference, in gray levels."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference, in gray levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


# What a slide says of itself ----------------------------------------------------------------------------------------

@each_format
def test_is_what_it_claims_to_be(kind: Format, slide_of: Callable[..., Path]) -> None:
    path = slide_of(kind)
    assert openslide.OpenSlide.detect_format(path) == kind.vendor
    image = BaseImage(path)
    assert image.facts.vendor == kind.vendor
    assert image.base_mag == pytest.approx(20)
    assert image.mpp == pytest.approx(0.5)
    assert image.facts.background == kind.options.get("fill", (255, 255, 255))
    assert bool(image.warnings) == (kind.vendor == "generic-tiff")  # the only one without a magnification


@pytest.mark.parametrize(("write", "ending", "options", "expected"), [
    (formats.aperio_jpeg, "svs", {"app_mag": 40, "mpp": 0.25}, 40),
    (formats.aperio_jpeg, "svs", {"app_mag": None, "mpp": 0.25}, 40),
    (formats.aperio_jpeg, "svs", {"app_mag": 40, "mpp": None}, 40),
    (formats.aperio_jpeg, "svs", {"app_mag": None, "mpp": None}, None),
    (formats.generic_tiff, "tif", {"mpp": 0.25}, 40),
    (formats.generic_tiff, "tif", {"mpp": None}, None),
    (formats.ndpi, "ndpi", {"lens": 40, "mpp": 0.23}, 40),
    (formats.dicom, "dcm", {"lens": 40, "mpp": 0.25}, 40),
    (formats.dicom, "dcm", {"lens": None, "mpp": 0.25}, 40),
    (formats.mrxs, "mrxs", {"lens": 63, "mpp": 0.1}, 63),
])
def test_magnification_is_stated_or_derived(write: Callable[..., Path], ending: str, options: dict,
                                            expected: float | None, picture: np.ndarray, tmp_path: Path) -> None:
    """10 µm/px is 1x; a slide with neither figure says so once it is asked for a magnification."""
    image = BaseImage(write(tmp_path / f"slide.{ending}", picture[256:768, 512:1024], **options))
    if expected:
        assert image.base_mag == pytest.approx(expected)
    else:
        assert image.base_mag is None
        with pytest.raises(SlideError, match=r"slide\.\w+ .*openslide\.objective-power.*openslide\.mpp-x"):
            image.plan("1.25x")
        assert image.picture("1/16").shape == (32, 32, 3)


# Pixels -------------------------------------------------------------------------------------------------------------

@each_format
@pytest.mark.parametrize("odd", [False, True], ids=["whole tiles", "odd sides"])
def test_levels_are_openslides_levels(kind: Format, odd: bool, slide_of: Callable[..., Path]) -> None:
    """To the last bit, also where the pixels are read without OpenSlide."""
    path = slide_of(kind, odd=odd)
    image = BaseImage(path)
    for level, downsample in enumerate(image.facts.level_downsamples):
        if round(downsample) not in LEVELS:
            continue  # OpenSlide makes further levels of an ndpi out of these
        rgb = image.picture(f"1/{round(downsample)}")
        expected = reference(path, level, image.facts.background)
        assert rgb.dtype == np.uint8
        assert farthest(rgb, expected) == 0
        assert expected.std() > 20  # a picture was compared


@each_format
def test_one_level_is_reduced_by_area_means(kind: Format, slide_of: Callable[..., Path]) -> None:
    path = slide_of(kind, (1,))
    image = BaseImage(path)
    for size in ("1/3", "1/16", "1/24", "0.9x"):  # 0.9x is 1/22.2, and within 1 % of 1/22
        plan = image.plan(size)
        if kind.vendor == "hamamatsu" and not plan.reduction.is_integer():
            continue  # out of a level that OpenSlide made of an ndpi's, and no whole part of that
        expected = formats.pyramid(reference(path, plan.level, image.facts.background), [int(plan.reduction)])[0]
        assert farthest(image.picture(size), expected) <= 1


@pytest.mark.parametrize("size", ["1/1.5", "1/4.5", "1/7.3", "3x", "0.85x"])
def test_fractions_are_close_to_area_means(size: str, slide_of: Callable[..., Path]) -> None:
    """Two steps instead of one: the same picture, though not to the last bit."""
    path = slide_of(FORMATS[0], (1,))
    rgb = BaseImage(path).picture(size)
    assert mean_difference(rgb, cv2.resize(reference(path, 0), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)) < 2.5


def test_pieces_of_a_lower_level_differ_little(picture: np.ndarray, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """The level's downsample is 4.0123, and OpenSlide, which takes corners in full-size pixels, interpolates."""
    tall = np.ascontiguousarray(np.vstack([picture, picture[::-1], picture])[:2607, 500:1103])
    image = BaseImage(formats.aperio_j2k_33005(tmp_path / "tall.svs", tall, (1, 4)))
    whole = image.picture("1/8")
    assert image.plan("1/8").level == 1
    touch(image.path)
    monkeypatch.setattr(tiles, "WHOLE", 1)
    monkeypatch.setattr(tiles, "PIECE", 16)  # px: a few hundred pieces
    apart = np.abs(image.picture("1/8").astype(int) - whole)
    assert apart.max() <= 6 and apart.mean() < 0.25


@pytest.mark.parametrize("says", ["rgb", "ycbcr"])
def test_the_tag_decides_on_the_colours(says: str, picture: np.ndarray, tmp_path: Path) -> None:
    path = formats.aperio_jpeg_contradicted(tmp_path / "slide.svs", picture, says=says)
    assert farthest(BaseImage(path).picture("1/1"), reference(path, 0)) == 0


@each_format
def test_pictures_cannot_be_written_to(kind: Format, slide_of: Callable[..., Path]) -> None:
    """They are shared by the steps: one that scribbled on its picture would change the next one's."""
    image = BaseImage(slide_of(kind))
    for size in ("1/1", "1/16", "1/24", "1/7.3"):
        rgb = image.picture(size)
        assert not rgb.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            rgb[0, 0] = 0


# Levels -------------------------------------------------------------------------------------------------------------

@each_format
def test_a_nominal_level_is_the_level(kind: Format, slide_of: Callable[..., Path]) -> None:
    """Sides that are no multiples of 16 make it 16.0024 or the like; missing it costs a 16 times larger read."""
    path = slide_of(kind, (1, 16), odd=True)
    image = BaseImage(path)
    downsamples = image.facts.level_downsamples
    level = min(range(len(downsamples)), key=lambda n: abs(downsamples[n] - 16))
    if kind.vendor not in ("mirax", "hamamatsu"):  # MIRAX rounds, and an ndpi's sides are cut to blocks
        assert downsamples[level] != 16
    for size in ("1.25x", "1/16"):
        plan = image.plan(size)
        assert (plan.level, plan.reduction) == (level, 1)
        assert (plan.width, plan.height) == image.facts.level_dimensions[level]


def part_out_of_focus(picture: np.ndarray) -> np.ndarray:
    """Four times the picture, so that one pixel decides little, a tenth of it blurred."""
    large = np.vstack([np.hstack([picture, picture[:, ::-1]]), np.hstack([picture[::-1], picture[::-1, ::-1]])])
    height, width = large.shape[:2]
    part = np.s_[height // 5:3 * height // 5, width // 4:width // 2]
    large[part] = cv2.GaussianBlur(large, (0, 0), 40)[part]
    return large


@pytest.mark.parametrize(("write", "ending", "options", "difference", "tolerance"), [
    (formats.generic_tiff, "tif", {"compression": "zlib"}, 0.5, 0.001),  # nothing but the reader
    (formats.aperio_jpeg_rgb, "svs", {}, 3, 0.01),                       # and what a level's own JPEG adds
    (formats.aperio_jpeg, "svs", {}, 4, 0.01),
])
def test_pyramids_do_not_change_answers(write: Callable[..., Path], ending: str, options: dict, difference: float,
                                        tolerance: float, picture: np.ndarray, tmp_path: Path) -> None:
    source = part_out_of_focus(picture)
    pictures, answers = [], []
    for pyramid in ((1,), (1, 4, 16), (1, 4, 16, 32)):
        path = write(tmp_path / f"levels-{len(pyramid)}.{ending}", source, pyramid, **options)
        pictures.append(BaseImage(path).picture("1/16"))
        row = pipeline.check_slide(str(path), "1.25x", "5x", 7, 0.05, 0.1, tmp_path)
        answers.append(row["percent_blurry"])
    assert all(mean_difference(other, pictures[0]) < difference for other in pictures[1:])
    assert 0.02 < answers[0] < 0.5  # something was found, and not everything
    assert max(answers) - min(answers) <= tolerance, answers


# Unscanned parts ----------------------------------------------------------------------------------------------------

def test_unscanned_parts_of_mrxs_have_its_own_background(slide_of: Callable[..., Path]) -> None:
    kind = FORMATS[-1]
    path = slide_of(kind)
    with openslide.OpenSlide(path) as slide:
        corner = np.asarray(slide.read_region((1100, 600), 0, (64, 64)))
    assert (corner == 0).all()  # transparent black, as OpenSlide gives it
    for by in LEVELS:
        rgb = BaseImage(path).picture(f"1/{by}")
        unscanned = rgb[-512 // by:, -512 // by:]
        if by == 16:  # one image holds scanned and unscanned parts: the scanner painted these, in JPEG
            assert farthest(unscanned[2:, 2:], np.broadcast_to(np.uint8(FILL), unscanned[2:, 2:].shape)) <= 2
        else:
            assert (unscanned == FILL).all()


EMPTY = {"aperio JPEG": (formats.aperio_jpeg, "svs"), "aperio JPEG 2000": (formats.aperio_j2k_33005, "svs"),
         "generic JPEG": (formats.generic_tiff, "tif")}


@pytest.mark.parametrize(("name", "levels", "level"), [
    *((name, (1,), 0) for name in EMPTY),
    *((name, LEVELS, level) for name in EMPTY for level in (0, 1, 2)),
])
def test_tiles_without_bytes_are_background(name: str, levels: tuple[int, ...], level: int, picture: np.ndarray,
                                            tmp_path: Path) -> None:
    """Aperio writes a byte count of 0 for a tile that was not scanned."""
    write, ending = EMPTY[name]
    path = formats.empty_tiles(write(tmp_path / f"slide.{ending}", picture, levels))
    rgb = BaseImage(path).picture(f"1/{levels[level]}")
    assert farthest(rgb, reference(path, level)) == 0
    if level == 0:
        assert (rgb[512:, 768:] == 255).all()
        assert rgb[512:900, 400:760].std() > 20


# Damage -------------------------------------------------------------------------------------------------------------

def refuses(path: Path) -> None:
    """Reading it ends with a SlideError that names the file, and neither its folder nor a picture."""
    with pytest.raises(SlideError, match=f"^{re.escape(path.name)} ") as caught:
        BaseImage(path).picture("1/1")
    assert str(path.parent) not in str(caught.value)


@pytest.mark.parametrize("how", ["whole", "middle"])
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind.name in FAST], ids=lambda kind: kind.name)
def test_a_damaged_tile_is_an_error(kind: Format, how: str, picture: np.ndarray, tmp_path: Path) -> None:
    """Also where a decoder by itself would guess, paint gray, and go on."""
    path = kind.write(tmp_path / f"damaged.{kind.ending}", picture, (1,), **kind.options)
    refuses(formats.damage_tile(path, tile=20, how=how))


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind.name not in FAST and kind.ending in ("svs", "tif")],
                         ids=lambda kind: kind.name)
def test_a_destroyed_tile_is_an_error_through_openslide(kind: Format, picture: np.ndarray, tmp_path: Path) -> None:
    path = kind.write(tmp_path / f"damaged.{kind.ending}", picture, (1,), **kind.options)
    refuses(formats.damage_tile(path, tile=20, how="whole"))


def test_a_destroyed_stretch_is_an_error_through_openslide(picture: np.ndarray, tmp_path: Path) -> None:
    ndpi = formats.ndpi(tmp_path / "damaged.ndpi", picture)
    refuses(formats.overwrite(ndpi, ndpi.stat().st_size // 2, 4000))  # a run between restart markers is lost
    mrxs = formats.mrxs(tmp_path / "damaged.mrxs", picture)
    data = mrxs.with_suffix("") / "Data0000.dat"
    formats.overwrite(data, data.stat().st_size // 2, 20_000)
    refuses(mrxs)
    (tmp_path / "series").mkdir()
    dicom = formats.dicom(tmp_path / "series" / "damaged.dcm", picture)
    formats.overwrite(dicom, dicom.stat().st_size // 2, 60_000)
    refuses(dicom)


def test_a_damaged_tile_beside_unscanned_ones_is_an_error(picture: np.ndarray, tmp_path: Path) -> None:
    path = formats.empty_tiles(formats.aperio_jpeg(tmp_path / "damaged.svs", picture))
    refuses(formats.damage_tile(path, tile=20, how="middle"))


def test_a_damaged_tile_of_another_level_does_not_matter(picture: np.ndarray, tmp_path: Path) -> None:
    path = formats.damage_tile(formats.aperio_jpeg(tmp_path / "slide.svs", picture, LEVELS), page=0, tile=20)
    assert farthest(BaseImage(path).picture("1/16"), reference(path, 2)) == 0


# Handles ------------------------------------------------------------------------------------------------------------

@each_format
def test_handles_travel(kind: Format, slide_of: Callable[..., Path]) -> None:
    image = BaseImage(slide_of(kind))
    before = image.picture("1/4")
    packed = pickle.dumps(image)  # after reading: pixels must not travel along
    assert len(packed) < 10_000
    touch(image.path)
    assert farthest(pickle.loads(packed).picture("1/4"), before) == 0


def test_threads_read_what_one_would(slide_of: Callable[..., Path]) -> None:
    """OpenSlide handles, TIFF handles and the pictures kept: none of them may be shared by accident."""
    kinds = [FORMATS[index] for index in (0, 5, 9, 11)]
    jobs = [(slide_of(kind), size) for kind in kinds for size in ("1/1", "1/6", "1/16")]

    def read(job: tuple[Path, str]) -> np.ndarray:
        return BaseImage(job[0]).picture(job[1])

    serial = [read(job) for job in jobs]
    touch(*{path for path, _ in jobs})
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read, jobs * 3))
    assert all(farthest(one, other) == 0 for one, other in zip(together, serial * 3, strict=True))


def test_each_thread_keeps_the_picture_that_it_read_last(slide_of: Callable[..., Path]) -> None:
    """The steps of a slide ask for it in turn; another slide's picture takes its place."""
    path, other = map(slide_of, FORMATS[:2])
    touch(path, other)
    mine = BaseImage(path).picture("1/4")
    assert BaseImage(path).picture("1/4") is mine
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(BaseImage(path).picture, "1/4").result() is not mine
    gone = weakref.ref(mine)
    del mine
    BaseImage(other).picture("1/4")
    assert gone() is None


def test_the_fast_way_is_taken(slide_of: Callable[..., Path]) -> None:
    """Else the comparison with OpenSlide would compare it with itself."""
    for kind in FORMATS:
        if kind.vendor in levels.TIFF_VENDORS:
            facts = BaseImage(path := slide_of(kind)).facts
            with tiles.opened(path, facts.vendor, 0, facts.level_dimensions[0], facts.background) as opened:
                assert isinstance(opened, tiles._OfTiff) == (kind.name in FAST), kind.name
