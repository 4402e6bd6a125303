"""Parts of a picture, read without the rest of it, against the same picture read as a whole; and what that costs."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from skimage.data import immunohistochemistry

import formats
from BaseImage import BaseImage
from conftest import HOME
from slideqc.slides import reading, tiles, windows

SIZES = ("1/1", "1/2", "1/3", "1/1.5", "1/2.06", "1/7.3", "1/16", "1/22")
WRITERS = {"tiles decoded here": (formats.aperio_jpeg, "svs"), "through OpenSlide": (formats.aperio_j2k_33005, "svs"),
           "gaps": (formats.mrxs, "mrxs")}

# Prints the most memory that the process has held, in kilobytes. What `resource` tells would begin with pytest's own.
PEAK = """
import re, sys
import pipeline
row = pipeline.check_slide(sys.argv[1], "1.25x", sys.argv[2], 7, 0.05, 0.1, sys.argv[3])
assert row["percent_blurry"] is not None, row
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Stained tissue, 1100×1500."""
    patch = immunohistochemistry()
    row = np.hstack([patch, patch[:, ::-1], patch])
    return np.ascontiguousarray(np.vstack([row, row[::-1], row])[:1100, :1500])


@pytest.fixture(scope="module")
def slides(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseImage]:
    """One slide for each way to read it; the last has a corner that was not scanned."""
    made = {}
    for name, (write, ending) in WRITERS.items():
        folder = tmp_path_factory.mktemp("slide")
        options = {"unscanned": (256, 512)} if ending == "mrxs" else {}
        made[name] = BaseImage(write(folder / f"slide.{ending}", picture, **options))
    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each tile was read."""
    counted: Counter = Counter()
    for kind in (tiles._OfTiff, tiles._OfOpenSlide):
        def read(self: tiles.Tiles, row: int, column: int, original: Callable = kind.read) -> tiles.Pixels:
            counted[row, column] += 1
            return original(self, row, column)
        monkeypatch.setattr(kind, "read", read)
    return counted


def means(picture: np.ndarray, plan: reading.Plan) -> np.ndarray:
    """Area means in float64: for each working pixel, how much of each of the picture's rows and columns it covers."""
    weights = []
    for full, working in zip(picture.shape, (plan.height, plan.width), strict=False):
        span = plan.reduction if plan.reduction.is_integer() else full / working
        edges, pixels = np.arange(working + 1) * span, np.arange(full)
        weights.append((np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])).clip(0) / span)
    return np.einsum("yi,ijc,xj->yxc", weights[0], picture.astype(float), weights[1], optimize=True)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_area_means(size: str, slides: dict[str, BaseImage]) -> None:
    """Also where a working pixel lies in several tiles, and at any fraction: within rounding."""
    image = slides["tiles decoded here"]
    apart = np.abs(image.picture(size) - means(image.picture("1/1"), image.plan(size)))
    assert apart.max() <= 0.51


def read_whole(image: BaseImage, size: str) -> np.ndarray:
    """The picture, which is not kept: else windows are cut from it."""
    whole = image.picture(size)
    reading._last.key = None
    return whole


@pytest.mark.parametrize("margin, side", [(0, 100), (1, 256), (29, 64), (29, 300), (29, 4000)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WRITERS)
def test_windows_make_up_the_whole(way: str, size: str, margin: int, side: int, slides: dict[str, BaseImage],
                                   decoded: Counter) -> None:
    """Each pixel lies in one window, with its surroundings; each tile is read once."""
    image = slides[way]
    plan = image.plan(size)
    whole = read_whole(image, size)
    decoded.clear()
    seen = np.zeros(whole.shape[:2], int)
    for window in reading.read_windows(image.path, image.facts, plan, margin, side=side):
        left, top, right, bottom = window[:4]
        seen[top:bottom, left:right] += 1
        outer = np.s_[max(0, top - margin):bottom + margin, max(0, left - margin):right + margin]
        assert (window.rgb == whole[outer]).all()
        assert (window.rgb[window.inner] == whole[top:bottom, left:right]).all()
    assert (seen == 1).all()
    assert set(decoded.values()) == {1}


@pytest.mark.parametrize("size", ["1/1", "1/2", "1/2.06", "1/7.3"])
def test_only_what_is_wanted_is_read(size: str, slides: dict[str, BaseImage], decoded: Counter) -> None:
    """Around it everything is as in the whole, as far as the margin."""
    image, margin = slides["tiles decoded here"], 9
    whole = read_whole(image, size)
    height, width = whole.shape[:2]
    decoded.clear()
    wanted = np.zeros((69, 94), np.uint8)
    wanted[10, 20:30] = wanted[60, 3] = 255
    large = cv2.resize(wanted, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    around = cv2.dilate(np.uint8(large), np.ones((2 * margin + 1,) * 2, np.uint8)) > 0
    seen = np.zeros((height, width), bool)
    for window in reading.read_windows(image.path, image.facts, image.plan(size), margin, wanted):
        left, top, right, bottom = window[:4]
        outer = np.s_[max(0, top - margin):bottom + margin, max(0, left - margin):right + margin]
        assert (window.rgb == whole[outer])[around[outer]].all()
        seen[top:bottom, left:right] = True
    assert seen[large].all()
    assert set(decoded.values()) == {1} and len(decoded) < 15  # of 30


@pytest.mark.parametrize("margin, side", [(0, 100), (29, 64), (29, 4000)])
@pytest.mark.parametrize("way", ["tiles decoded here", "gaps"])
def test_windows_of_a_picture_that_is_kept(way: str, margin: int, side: int, slides: dict[str, BaseImage],
                                           decoded: Counter) -> None:
    """They are cut from it: no tile is read again."""
    image = slides[way]
    whole, scanned = image.picture("1/2"), image.scanned("1/2")
    decoded.clear()
    seen = np.zeros(whole.shape[:2], int)
    wanted = np.uint8(seen == 0)
    wanted[:whole.shape[0] // 2] = 0
    for window in reading.read_windows(image.path, image.facts, image.plan("1/2"), margin, wanted, side=side):
        left, top, right, bottom = window[:4]
        seen[top:bottom, left:right] += 1
        outer = np.s_[max(0, top - margin):bottom + margin, max(0, left - margin):right + margin]
        assert (window.rgb == whole[outer]).all()
        assert (window.rgb[window.inner] == whole[top:bottom, left:right]).all()
        assert window.scanned is None if scanned.all() else (window.scanned == scanned[outer]).all()
    assert seen.max() == 1 and (seen[wanted > 0] == 1).all()
    assert side > 100 or not seen[0].any()
    assert not decoded


def test_nothing_wanted_nothing_read(slides: dict[str, BaseImage], decoded: Counter) -> None:
    image = slides["gaps"]
    blank = np.zeros((40, 50), np.uint8)
    assert not list(reading.read_windows(image.path, image.facts, image.plan("1/2"), 9, blank))
    assert not decoded


def test_a_pixel_counts_as_scanned_if_all_of_it_is(slides: dict[str, BaseImage]) -> None:
    image = slides["gaps"]
    full = image.scanned("1/1")
    for by in (3, 16):
        plan = image.plan(f"1/{by}")
        expected = full[:plan.height * by, :plan.width * by].reshape(plan.height, by, plan.width, by).min(axis=(1, 3))
        assert (image.scanned(f"1/{by}") == expected).all() and 0 < (expected == 0).mean() < 0.5


def wide(path: Path, width: int, height: int, tile: int, compression: str) -> Path:
    """A slide of one level, from a bank of tiles that are encoded once."""
    patch = np.tile(immunohistochemistry(), (tile // 512 + 1, tile // 512 + 1, 1))[:tile, :tile]
    bank = [formats.jpeg(patch), formats.jpeg(patch[::-1])]
    if compression == "zlib":
        bank = [formats.imagecodecs.zlib_encode(np.ascontiguousarray(part), 1) for part in (patch, patch[::-1])]
    count = -(-width // tile) * -(-height // tile)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write((bank[number % 2] for number in range(count)), shape=(height, width, 3), dtype=np.uint8,
                   tile=(tile, tile), compression=compression, metadata=None, resolution=(20_000, 20_000),
                   resolutionunit="CENTIMETER", photometric="ycbcr" if compression == "jpeg" else "rgb",
                   subsampling=(2, 2) if compression == "jpeg" else None)
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory as Linux tells it")
@pytest.mark.parametrize("width, height, tile, compression, size", [
    (92_000, 3000, 256, "jpeg", "10x"), (46_000, 2000, 512, "jpeg", "20x"), (46_000, 3000, 1024, "jpeg", "9.7x"),
    (46_000, 1300, 512, "zlib", "20x")])
def test_memory_does_not_grow_with_the_slide(width: int, height: int, tile: int, compression: str, size: str,
                                             tmp_path: Path) -> None:
    """The last one is read through OpenSlide; the picture at that size alone has 90 to 280 MB."""
    path = wide(tmp_path / "wide.tif", width, height, tile, compression)
    done = subprocess.run([sys.executable, "-c", PEAK, path, size, tmp_path], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 250 * 1000


def test_windows_have_a_sensible_size(slides: dict[str, BaseImage]) -> None:
    """Small ones would spend most of the time on margins."""
    image = slides["tiles decoded here"]
    sides = {(window.right - window.left, window.bottom - window.top) for window in
             reading.read_windows(image.path, image.facts, image.plan("1/1"), 29)}
    assert all(side >= windows.SIDE // 2 for pair in sides for side in pair)
