"""The steps of pipeline.py against scikit-image's filters in float64, and on slides whose truth is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import rgb2gray
from skimage.filters import gaussian, laplace, threshold_otsu
from skimage.morphology import dilation, footprint_rectangle

import pipeline
from slideqc.errors import SlideError
from slideqc.slides.generate import truth_path

DEFAULTS = {"image_work_size": "1.25x", "blur_radius": 7, "blur_threshold": 0.05, "blur_max": 0.05}


def reference_tissue(rgb: np.ndarray) -> np.ndarray:
    inverted = 255 - np.round(255 * rgb2gray(rgb)).astype(np.uint8)
    mask = inverted > threshold_otsu(inverted)
    for _ in range(3):
        mask = dilation(mask, footprint_rectangle((5, 5)))
    return mask


def reference_blurry(rgb: np.ndarray, tissue: np.ndarray, radius: float, threshold: float) -> np.ndarray:
    return (gaussian(np.abs(laplace(rgb2gray(rgb))), sigma=radius) <= threshold) & tissue


@pytest.fixture(scope="module")
def pictures(real_slide, small_slides, tmp_path_factory):
    output = tmp_path_factory.mktemp("pictures")
    slides = [real_slide, *sorted(small_slides.glob("*.svs"))]
    return [pipeline.load_image(str(slide), size, output).picture(size) for slide in slides for size in ("1.25x", "5x")]


def test_tissue_mask_is_the_reference(pictures):
    for rgb in pictures:
        assert np.mean((pipeline.tissue_mask(rgb) > 0) != reference_tissue(rgb)) < 0.001


@pytest.mark.parametrize("radius, threshold", [(7, 0.05), (3, 0.1), (1.5, 0.02)])
def test_blurry_mask_is_the_reference(pictures, radius, threshold):
    for rgb in pictures:
        tissue = reference_tissue(rgb)
        expected = reference_blurry(rgb, tissue, radius, threshold)
        assert np.mean((pipeline.blurry_mask(rgb, tissue * np.uint8(255), radius, threshold) > 0) != expected) < 0.001


def test_figure_of_the_real_slide(real_slide, tmp_path):
    row = pipeline.check_slide(str(real_slide), output=tmp_path, **DEFAULTS)
    assert row["status"] == "ok"
    assert row["percent_blurry"] == pytest.approx(0.0322, abs=0.002)


def test_steps_leave_their_masks_and_give_fractions(small_slides, tmp_path):
    slide = str(small_slides / "small-2.svs")
    image = pipeline.load_image(slide, "1.25x", tmp_path)
    fraction = pipeline.tissue_segmentation_simple(image, "1.25x")
    percent_blurry = pipeline.identifyBlurryRegions(image, "1.25x", 7, 0.05)
    tissue, blurry = (cv2.imread(str(tmp_path / f"small-2.svs_{kind}.png"), cv2.IMREAD_UNCHANGED)
                      for kind in ("tissue_seg", "blurry"))
    assert tissue.dtype == np.uint8 and set(np.unique(tissue)) == {0, 255}
    assert tissue.shape == blurry.shape == image.picture("1.25x").shape[:2]
    assert fraction == pytest.approx((tissue > 0).mean())
    assert percent_blurry == pytest.approx((blurry > 0).sum() / (tissue > 0).sum())
    assert not (blurry & ~tissue).any()


def test_blur_step_needs_the_tissue_step(small_slides, tmp_path):
    image = pipeline.load_image(str(small_slides / "small-1.svs"), "1.25x", tmp_path)
    with pytest.raises(SlideError, match=r"small-1\.svs has no small-1\.svs_tissue_seg\.png yet.*upstream_tasks"):
        pipeline.identifyBlurryRegions(image, "1.25x", 7, 0.05)


def test_steps_do_not_change_their_input(pictures):
    rgb = pictures[0].copy()
    tissue = pipeline.tissue_mask(rgb)
    before = tissue.copy()
    pipeline.blurry_mask(rgb, tissue, 7, 0.05)
    assert np.array_equal(rgb, pictures[0]) and np.array_equal(tissue, before)


@pytest.mark.parametrize("percent_blurry, blur_max, over",
                         [(0.06, 0.05, True), (0.05, 0.05, False), (None, 0.05, False)])
def test_check_blurry(percent_blurry, blur_max, over):
    assert pipeline.check_blurry(percent_blurry, blur_max) is over


def test_blurry_slide_is_told(small_slides, tmp_path, caplog):
    row = pipeline.check_slide(str(small_slides / "small-2.svs"), output=tmp_path, **DEFAULTS)
    truth = cv2.imread(str(truth_path(small_slides / "small-2.svs")), cv2.IMREAD_UNCHANGED)
    assert row["status"] == "rescan"
    assert row["percent_blurry"] == pytest.approx((truth == 255).sum() / (truth > 0).sum(), abs=0.1)
    assert "small-2.svs" in caplog.text and "please rescan" in caplog.text


def glass(noise: float, shading: float, height: int = 300, width: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = 238 + rng.normal(0, noise, (height, width, 1)) + np.linspace(-shading / 2, shading / 2, width)[:, None]
    return np.clip(np.repeat(picture, 3, axis=2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise, shading", [(0, 0), (1, 0), (4, 0), (1, 20), (3, 25)])
def test_glass_holds_no_tissue(noise, shading):
    assert not pipeline.tissue_mask(glass(noise, shading)).any()


def test_dust_and_fibres_are_no_tissue():
    picture = glass(1, 10, 1000, 1400)
    rng = np.random.default_rng(1)
    for x, y, radius in zip(rng.integers(0, 1400, 40), rng.integers(0, 1000, 40), rng.integers(1, 8, 40), strict=True):
        cv2.circle(picture, (int(x), int(y)), int(radius), (60, 60, 60), -1)
    cv2.line(picture, (100, 100), (900, 700), (90, 90, 90), 3)
    assert not pipeline.tissue_mask(picture).any()


def test_pale_tissue_is_tissue():
    picture = glass(1, 10)
    cv2.ellipse(picture, (200, 150), (80, 50), 20, 0, 360, (225, 190, 205), -1)
    assert 0.08 < (pipeline.tissue_mask(picture) > 0).mean() < 0.2


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))), st.floats(0.5, 12),
       st.floats(0, 0.5), st.floats(0, 0.5))
def test_masks_of_any_picture(rgb, radius, threshold, more):
    tissue = pipeline.tissue_mask(rgb)
    assert tissue.dtype == np.uint8 and tissue.shape == rgb.shape[:2] and set(np.unique(tissue)) <= {0, 255}
    everywhere = np.full_like(tissue, 255)
    blurry = pipeline.blurry_mask(rgb, everywhere, radius, threshold)
    assert set(np.unique(blurry)) <= {0, 255}
    # A laxer threshold finds all that a stricter one found, and nothing outside the tissue.
    laxer = pipeline.blurry_mask(rgb, tissue, radius, threshold + more)
    assert not (blurry & tissue & ~laxer).any() and not (laxer & ~tissue).any()
