"""Generated and planted slides, as OpenSlide sees them, and their truth, as the steps of the pipeline find it."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest

import pipeline
from slideqc.slides import aperio, generate, reading
from slideqc.slides.generate import truth_path, write_slide
from slideqc.slides.magnification import Plan

HOME = Path(__file__).resolve().parent.parent
GLASS, SHARP, BLURRED = 0, 128, 255


def pixels(slide: openslide.OpenSlide, level: int, left=0, top=0, width=None, height=None) -> np.ndarray:
    """Part of a level as RGB; `left` and `top` are pixels of that level."""
    size = (width or slide.level_dimensions[level][0], height or slide.level_dimensions[level][1])
    by = round(slide.level_downsamples[level])
    return np.array(slide.read_region((left * by, top * by), level, size).convert("RGB"))


def truth_of(path: Path) -> np.ndarray:
    return cv2.imread(str(truth_path(path)), cv2.IMREAD_UNCHANGED)


def small(path: Path, **options) -> Path:
    return write_slide(path, **{"width": 2048, "height": 1536, "magnification": 20, "seed": 7} | options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two slides: at 20x of full size, all in focus, and at 40x of half the height and width, partly out of focus.

    At 40x the full size takes 20 s: it is made and checked with the commands of the README.
    """
    assert generate.SIZES[40] == (92000, 65828)
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generate.SIZES, 40, (46016, 32900))
        generate.generate(folder, 2)
    return folder


@pytest.fixture(scope="module", params=["generated-20x-1", "generated-40x-2"])
def full(folder, request):
    return folder / f"{request.param}.svs"


@pytest.fixture(scope="module")
def small_slide(tmp_path_factory):
    return small(tmp_path_factory.mktemp("small") / "small.svs")


@pytest.fixture(scope="module")
def planted(planted_slides):
    return {path.stem.removeprefix("planted-"): path for path in planted_slides.glob("*.svs")}


# The file ---------------------------------------------------------------------------------------------------------

FACTS = {
    20: ("0.499", [(46000, 32914), (11500, 8228), (2875, 2057)]),
    40: ("0.2495", [(46016, 32900), (11504, 8225), (2876, 2056), (1438, 1028)]),
}


def test_large_slides_are_aperio_slides(full):
    magnification = 40 if "40x" in full.name else 20
    mpp, levels = FACTS[magnification]
    with openslide.OpenSlide(full) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.properties["openslide.objective-power"] == str(magnification)
        assert slide.properties["openslide.mpp-x"] == slide.properties["openslide.mpp-y"] == mpp
        assert list(slide.level_dimensions) == levels
        assert max(slide.associated_images["thumbnail"].size) <= 1024
    assert full.stat().st_size < 150e6
    assert truth_of(full).shape == levels[-1][::-1]


def assert_reduced(above: np.ndarray, below: np.ndarray) -> None:
    """`above` is the area-reduced `below`, but for what JPEG loses: one pixel aside would be far worse."""
    expected = cv2.resize(below, above.shape[1::-1], interpolation=cv2.INTER_AREA)
    gray, expected_gray = (np.float32(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY)) for each in (above, expected))
    loss = np.abs(gray - expected_gray).mean()
    assert np.corrcoef(gray.ravel(), expected_gray.ravel())[0, 1] > 0.97
    assert loss < 0.7 * np.abs(gray[1:, 1:] - expected_gray[:-1, :-1]).mean()
    assert np.abs(above.mean((0, 1)) - expected.mean((0, 1))).max() < 1   # nor is it another colour


def test_pyramid_of_large_slides(full):
    with openslide.OpenSlide(full) as slide:
        ys, xs = np.nonzero(cv2.erode(np.uint8(truth_of(full) == SHARP), np.ones((41, 41))))
        for y, x in zip(ys[::len(ys) // 5], xs[::len(xs) // 5], strict=True):
            for level in range(1, slide.level_count):
                ratio = round(slide.level_downsamples[level] / slide.level_downsamples[level - 1])
                place = slide.level_dimensions[level][0] / truth_of(full).shape[1]
                left, top = max(0, int(x * place) - 150), max(0, int(y * place) - 150)
                assert_reduced(pixels(slide, level, left, top, 300, 300),
                               pixels(slide, level - 1, left * ratio, top * ratio, 300 * ratio, 300 * ratio))


@pytest.mark.parametrize("magnification, levels", [(20, None), (20, (1,)), (20, (1, 4)), (20, (1, 16)),
                                                   (20, (1, 4, 16, 32)), (40, None)])
def test_levels_are_reduced_pictures_of_one_another(tmp_path, magnification, levels):
    path = small(tmp_path / "s.svs", magnification=magnification, levels=levels, width=2311, height=1789)
    levels = levels or generate.LEVELS[magnification]
    with openslide.OpenSlide(path) as slide:
        assert [round(by) for by in slide.level_downsamples] == list(levels)
        for i in range(1, len(levels)):
            ratio = levels[i] // levels[i - 1]
            width, height = slide.level_dimensions[i]
            assert (width, height) == tuple(side // ratio for side in slide.level_dimensions[i - 1])
            assert_reduced(pixels(slide, i), pixels(slide, i - 1, 0, 0, width * ratio, height * ratio))
    assert truth_of(path).shape == (1789 * 20 // magnification // 16, 2311 * 20 // magnification // 16)


@pytest.mark.parametrize("wrong", [{"levels": (1, 8)}, {"levels": (4, 16)}, {"levels": (1, 16, 4)},
                                   {"levels": (1, 16, 40)}, {"magnification": 10}])
def test_what_cannot_be_made_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"pyramid|20x or 40x"):
        small(tmp_path / "s.svs", **wrong)
    assert not list(tmp_path.iterdir())


def test_openslide_and_our_reader_agree(small_slide):
    facts = reading.read_facts(small_slide)
    with openslide.OpenSlide(small_slide) as slide:
        for level, (width, height) in enumerate(slide.level_dimensions):
            ours = reading.read_picture(small_slide, facts, Plan(level, 1.0, width, height)).rgb
            assert np.abs(np.int16(ours) - pixels(slide, level)).max() <= 2


def test_same_seed_same_bytes(small_slide, tmp_path):
    again, other = small(tmp_path / "small.svs"), small(tmp_path / "other.svs", seed=8)
    assert again.read_bytes() == small_slide.read_bytes()
    assert truth_path(again).read_bytes() == truth_path(small_slide).read_bytes()
    with openslide.OpenSlide(again) as one, openslide.OpenSlide(other) as two:
        assert cv2.absdiff(pixels(one, 1), pixels(two, 1)).mean() > 10


def test_small_slide_has_tissue_and_glass(small_slide):
    with openslide.OpenSlide(small_slide) as slide:
        picture, truth = pixels(slide, 2), truth_of(small_slide)
    assert set(np.unique(truth)) == {GLASS, SHARP, BLURRED}
    assert 0.25 < (truth > 0).mean() < 0.8
    red, green, blue = picture[truth == SHARP].mean(0)
    assert green < blue < red < 230                                # pink to purple,
    assert np.ptp(picture[truth == GLASS].mean(0)) < 8 and picture[truth == GLASS].mean() > 230   # on gray glass


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")
    monkeypatch.setattr(aperio, "write_directories", fail)
    with pytest.raises(OSError, match="no space"):
        small(tmp_path / "s.svs")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_generate_keeps_whole_slides_and_mends_others(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "SIZES", {20: (2048, 1536), 40: (4096, 3072)})
    paths = generate.generate(tmp_path, 4)
    assert [path.name for path in paths] == ["generated-20x-1.svs", "generated-40x-2.svs", "generated-20x-3.svs",
                                             "generated-40x-4.svs"]
    assert [(truth_of(path) == BLURRED).any() for path in paths] == [False, True, True, False]
    before = [path.read_bytes() for path in paths]
    paths[1].write_bytes(before[1][:5000])
    truth_path(paths[2]).unlink()
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert generate.generate(tmp_path, 4) == paths
    assert [path.read_bytes() for path in paths] == before
    assert [path.stat().st_mtime_ns != stamp for path, stamp in zip(paths, stamps, strict=True)] == [
        False, True, True, False]
    assert truth_path(paths[2]).exists()


# The truth --------------------------------------------------------------------------------------------------------

def judged(path: Path, output: Path, size: str = "5x") -> tuple[np.ndarray, np.ndarray, float]:
    """The masks of the pipeline's steps, bool (height, width) at 1.25x, and percent_blurry."""
    image = pipeline.load_image(str(path), "1.25x", str(output))
    pipeline.tissue_segmentation_simple(image, "1.25x")
    percent = pipeline.identifyBlurryRegions(image, "1.25x", size, 7, 0.05)
    return image.load_mask("tissue_seg.png") > 0, image.load_mask("blurry.png") > 0, percent


def test_truth_is_what_the_steps_find(full, tmp_path):
    tissue, blurry, percent = judged(full, tmp_path)
    truth = truth_of(full)
    assert np.sum(tissue & (truth > 0)) / np.sum(tissue | (truth > 0)) >= 0.95
    assert blurry[truth == SHARP].mean() <= 0.02
    if "20x" in full.name:
        assert not (truth == BLURRED).any() and percent <= 0.02
    else:
        assert blurry[truth == BLURRED].mean() >= 0.95
        assert 0.08 <= np.sum(truth == BLURRED) / np.sum(truth > 0) <= 0.35


def test_tissue_is_sharp_at_ten_times(tmp_path):
    path = small(tmp_path / "slide.svs", width=8192, height=6144, blurred=False)
    assert judged(path, tmp_path)[2] <= 0.02 and judged(path, tmp_path, "10x")[2] <= 0.10


def test_one_picture_in_three_pyramids(tmp_path):
    found = [judged(small(tmp_path / f"{len(levels)}.svs", width=8192, height=6144, levels=levels), tmp_path)[2]
             for levels in ((1,), (1, 4), (1, 4, 16))]
    assert max(found) - min(found) <= 0.005 and min(found) > 0.1


def test_truth_is_what_was_drawn(small_slide):
    """Glass is glass, tissue is not: from the pixels of the full size, not from the steps."""
    with openslide.OpenSlide(small_slide) as slide:
        full = pixels(slide, 0)
    truth = cv2.resize(truth_of(small_slide), (2048, 1536), interpolation=cv2.INTER_NEAREST)
    inner = {kind: cv2.erode(np.uint8(truth == kind), np.ones((121, 121))) > 0 for kind in (GLASS, SHARP, BLURRED)}
    gray = np.float32(cv2.cvtColor(full, cv2.COLOR_RGB2GRAY))
    edges = np.abs(cv2.Laplacian(gray, cv2.CV_32F))
    assert gray[inner[GLASS]].min() > 230
    assert gray[inner[SHARP]].mean() < 210 and gray[inner[BLURRED]].mean() < 220
    assert edges[inner[SHARP]].mean() > 5 * edges[inner[BLURRED]].mean()


# The awkward ones -------------------------------------------------------------------------------------------------

def test_planted_slides_are_small_and_come_again_the_same(planted, tmp_path):
    """In another process too, and one without imagecodecs, which is not needed."""
    code = ("import sys; sys.modules['imagecodecs'] = None\n"
            "from pathlib import Path; from slideqc.slides.awkward import plant; plant(Path(sys.argv[1]))")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=HOME, check=True)
    assert set(planted) == {"blank", "truncated", "no-magnification", "only-pixel-size", "unscanned-corner",
                            "damaged-tile"}
    for path in planted.values():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert all(path.stat().st_size < 1e6 for path in planted.values())
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {path.name for path in planted.values()} | {"truth"}


def test_blank_has_noise_shading_dust_and_no_tissue(planted):
    with openslide.OpenSlide(planted["blank"]) as slide:
        assert slide.level_dimensions == ((2048, 1536), (512, 384), (128, 96))
        gray = pixels(slide, 0)[..., 1]
    assert 0.001 < (gray < 200).mean() < 0.02
    assert 4 < np.median(gray[:, :200]) - np.median(gray[:, -200:]) < 12
    assert gray[:256, :256].std() > 0


def test_truncated_cannot_be_read(planted):
    with pytest.raises(openslide.OpenSlideError), openslide.OpenSlide(planted["truncated"]) as slide:
        pixels(slide, 0)


@pytest.mark.parametrize("name, mpp", [("no-magnification", None), ("only-pixel-size", "0.499")])
def test_facts_that_are_missing(planted, name, mpp):
    with openslide.OpenSlide(planted[name]) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert "openslide.objective-power" not in slide.properties
        assert slide.properties.get("openslide.mpp-x") == mpp
        assert pixels(slide, 2).std() > 10


def test_unscanned_corner_is_transparent(planted):
    with openslide.OpenSlide(planted["unscanned-corner"]) as slide:
        for level, (width, height) in enumerate(slide.level_dimensions):
            alpha = np.array(slide.read_region((0, 0), level, (width, height)))[..., 3]
            assert not alpha[:height // 2, :width // 2].any()
            assert (alpha == 0).mean() == 0.25


def test_damaged_tile_raises_on_every_level_and_there_alone(planted):
    path = planted["damaged-tile"]
    for level in range(3):
        with openslide.OpenSlide(path) as slide, pytest.raises(openslide.OpenSlideError):
            pixels(slide, level)
    with openslide.OpenSlide(path) as slide:
        pixels(slide, 0, 0, 0, 1024, 768)
        pixels(slide, 0, 1280, 0, 768, 1536)
        with pytest.raises(openslide.OpenSlideError):
            pixels(slide, 0, 1024, 768, 256, 256)
