"""The two filters against scikit-image's in float64, on the whole picture; and what is tissue, and what is none."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import rgb2gray
from skimage.filters import gaussian, laplace, threshold_otsu
from skimage.measure import label
from skimage.morphology import dilation, erosion, footprint_rectangle

import pipeline
from slideqc import pixels
from slideqc.tissue_warnings import tissue_warnings

SQUARE = footprint_rectangle((5, 5))
GLASS = 238


def all_scanned(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], 255, np.uint8)


def tissue_of(rgb: np.ndarray) -> np.ndarray:
    return pixels.tissue_mask(rgb, all_scanned(rgb))


def reference_tissue(rgb: np.ndarray, scanned: np.ndarray | None = None) -> np.ndarray:
    scanned = np.ones(rgb.shape[:2], bool) if scanned is None else scanned > 0
    inverted = 255 - np.round(255 * rgb2gray(rgb)).astype(np.uint8)
    mask = (inverted > threshold_otsu(inverted[scanned])) & scanned
    pieces = label(mask, connectivity=2)
    wide = dilation(erosion(mask, SQUARE), SQUARE)
    for piece in range(1, pieces.max() + 1):
        if (wide & (pieces == piece)).sum() < 0.0002 * scanned.sum():
            mask[pieces == piece] = False
    mask = np.pad(mask, 20)
    for _ in range(3):
        mask = dilation(mask, SQUARE)
    for _ in range(3):
        mask = erosion(mask, SQUARE)
    return mask[20:-20, 20:-20] & scanned


def reference_blurry(rgb: np.ndarray, tissue: np.ndarray, radius: float, threshold: float) -> np.ndarray:
    return (gaussian(np.abs(laplace(rgb2gray(rgb))), sigma=radius) <= threshold) & tissue


@pytest.fixture(scope="module")
def pictures(real_slide, small_slides, tmp_path_factory):
    output = tmp_path_factory.mktemp("pictures")
    slides = [real_slide, *sorted(small_slides.glob("*.svs"))]
    return [pipeline.load_image(str(slide), size, output).picture(size) for slide in slides for size in ("1.25x", "5x")]


def test_tissue_mask_is_the_reference(pictures):
    for rgb in pictures:
        assert np.mean((tissue_of(rgb) > 0) != reference_tissue(rgb)) < 0.001


def test_tissue_mask_of_a_part_is_the_reference(pictures):
    for rgb in pictures[::2]:
        scanned = all_scanned(rgb)
        scanned[:, :rgb.shape[1] // 3] = 0
        found = pixels.tissue_mask(rgb, scanned) > 0
        assert np.mean(found != reference_tissue(rgb, scanned)) < 0.001 and not found[scanned == 0].any()


@pytest.mark.parametrize("radius, threshold", [(7, 0.05), (3.5, 0.07), (3, 0.1), (1.5, 0.02), (28, 0.05)])
def test_blurry_mask_is_the_reference(pictures, radius, threshold):
    for rgb in pictures:
        tissue = reference_tissue(rgb)
        expected = reference_blurry(rgb, tissue, radius, threshold)
        found = pixels.blurry_mask(rgb, tissue * np.uint8(255), radius, threshold)
        assert np.mean((found > 0) != expected) < 0.001


def test_filters_do_not_change_their_input(pictures):
    rgb = pictures[0].copy()
    tissue = tissue_of(rgb)
    before = tissue.copy()
    pixels.blurry_mask(rgb, tissue, 7, 0.05)
    pixels.dark_surround(rgb)
    assert np.array_equal(rgb, pictures[0]) and np.array_equal(tissue, before)


def glass(noise: float = 1, shading: float = 0, height: int = 300, width: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = GLASS + rng.normal(0, noise, (height, width, 1)) + np.linspace(-shading / 2, shading / 2, width)[:, None]
    return np.clip(np.repeat(picture, 3, axis=2), 0, 255).astype(np.uint8)


def with_tissue(picture: np.ndarray, colour: tuple[int, int, int] = (200, 140, 180)) -> np.ndarray:
    """An ellipse of tissue, with nuclei in it."""
    rng = np.random.default_rng(2)
    height, width = picture.shape[:2]
    cv2.ellipse(picture, (width // 2, height // 2), (width // 5, height // 6), 20, 0, 360, colour, -1)
    inside = (picture == colour).all(axis=2)
    return np.where(inside[..., None], np.uint8((picture + rng.normal(0, 12, picture.shape)).clip(0, 255)), picture)


@pytest.mark.parametrize("noise, shading", [(0, 0), (1, 0), (4, 0), (1, 20), (3, 25)])
def test_glass_holds_no_tissue(noise, shading):
    assert not tissue_of(glass(noise, shading)).any()


def dust(picture: np.ndarray) -> np.ndarray:
    """Specks and a fibre."""
    rng = np.random.default_rng(1)
    height, width = picture.shape[:2]
    for x, y, radius in zip(rng.integers(0, width, 40), rng.integers(0, height, 40), rng.integers(1, 8, 40),
                            strict=True):
        cv2.circle(picture, (int(x), int(y)), int(radius), (60, 60, 60), -1)
    cv2.line(picture, (100, 100), (900, 700), (90, 90, 90), 3)
    return picture


def test_dust_and_fibres_are_no_tissue():
    assert not tissue_of(dust(glass(1, 10, 1000, 1400))).any()


def test_dust_beside_tissue_is_no_tissue():
    alone = tissue_of(with_tissue(glass(height=1000, width=1400)))
    beside = tissue_of(with_tissue(dust(glass(height=1000, width=1400))))
    # What touches the tissue, or lies within the gaps that are closed, stays.
    assert np.mean(alone != beside) < 0.003


def test_pale_tissue_is_tissue():
    picture = glass(1, 10)
    cv2.ellipse(picture, (200, 150), (80, 50), 20, 0, 360, (225, 190, 205), -1)
    assert 0.08 < (tissue_of(picture) > 0).mean() < 0.11


def test_the_mask_hugs_the_tissue():
    """No rim of glass around it: that was blurry by nature."""
    picture = glass()
    cv2.rectangle(picture, (100, 80), (299, 219), (200, 140, 180), -1)
    assert np.argwhere(tissue_of(picture)).min(axis=0).tolist() == [80, 100]
    assert np.argwhere(tissue_of(picture)).max(axis=0).tolist() == [219, 299]


@pytest.mark.parametrize("black", [0, 30])
def test_a_black_surround_is_no_tissue(black):
    picture = cv2.copyMakeBorder(with_tissue(glass()), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(black,) * 3)
    surround = pixels.dark_surround(picture)
    assert surround[:38].all() and surround[:, :38].all() and not surround[44:-44, 44:-44].any()
    scanned = cv2.bitwise_and(all_scanned(picture), 255 - surround)
    tissue = pixels.tissue_mask(picture, scanned)
    assert np.mean(tissue[44:-44, 44:-44] != tissue_of(with_tissue(glass()))[4:-4, 4:-4]) < 0.002
    assert not tissue[:44].any()
    [warning] = tissue_warnings(picture, all_scanned(picture), surround, tissue)
    assert warning.startswith("dark surround: ")


def test_dark_tissue_at_the_edge_is_no_surround():
    rng = np.random.default_rng(4)
    picture = glass()
    picture[:, :120] = rng.integers(30, 110, (300, 120, 1), np.uint8)
    assert not pixels.dark_surround(picture).any()


@pytest.mark.parametrize("picture, words", [
    (with_tissue(glass(), (226, 222, 224)), "very pale tissue (mean gray 0.8"),
    (255 - with_tissue(glass()), "dark background (gray 0."),
    (dust(glass(1, 10, 1000, 1400)), "no tissue found, though 0."),
    (glass(), "no tissue found: blank glass"),
], ids=["pale", "fluorescence", "specks", "blank"])
def test_figures_that_are_not_to_be_trusted(picture, words):
    scanned = all_scanned(picture)
    surround = pixels.dark_surround(picture)
    tissue = pixels.tissue_mask(picture, cv2.bitwise_and(scanned, 255 - surround))
    assert words in " | ".join(tissue_warnings(picture, scanned, surround, tissue))


def test_ordinary_slides_have_no_warning(pictures):
    for rgb in pictures:
        surround = pixels.dark_surround(rgb)
        assert not tissue_warnings(rgb, all_scanned(rgb), surround, tissue_of(rgb))


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))), st.floats(0.5, 12),
       st.floats(0, 0.5), st.floats(0, 0.5))
def test_masks_of_any_picture(rgb, radius, threshold, more):
    tissue = tissue_of(rgb)
    assert tissue.dtype == np.uint8 and tissue.shape == rgb.shape[:2] and set(np.unique(tissue)) <= {0, 255}
    everywhere = np.full_like(tissue, 255)
    blurry = pixels.blurry_mask(rgb, everywhere, radius, threshold)
    assert set(np.unique(blurry)) <= {0, 255}
    # A laxer threshold finds all that a stricter one found, and nothing outside the tissue.
    laxer = pixels.blurry_mask(rgb, tissue, radius, threshold + more)
    assert not (blurry & tissue & ~laxer).any() and not (laxer & ~tissue).any()
