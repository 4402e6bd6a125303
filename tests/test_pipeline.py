"""The steps of pipeline.py, on slides whose truth is known, and tile by tile against the whole picture."""

import cv2
import numpy as np
import pytest

import pipeline
from slideqc import pixels
from slideqc.errors import SlideError
from slideqc.slides import reading, tissue_tiles
from slideqc.slides.generate import truth_path

DEFAULTS = {"image_work_size": "1.25x", "blur_work_size": "5x", "blur_radius": 7, "blur_threshold": 0.05,
            "blur_max": 0.1}
DEFOCUS = 0.577  # µm of radius of the disc for each µm of defocus, through a lens of NA 0.75: tan(asin(0.75 / 1.5))


def defocused(rgb: np.ndarray, radius: float) -> np.ndarray:
    """The picture under a disc of that radius in pixels, as a lens out of focus shows it."""
    half = int(np.ceil(radius)) + 1
    fine = (np.arange((2 * half + 1) * 8) + 0.5) / 8 - half - 0.5
    disc = np.float32(fine[:, None] ** 2 + fine ** 2 <= radius ** 2).reshape(2 * half + 1, 8, -1, 8).mean(axis=(1, 3))
    return cv2.filter2D(rgb, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


def test_figure_of_the_real_slide(real_slide, tmp_path):
    row = pipeline.check_slide(str(real_slide), output=tmp_path, **DEFAULTS)
    assert row["status"] == "ok" and row["warnings"] == []
    assert row["percent_blurry"] == pytest.approx(0.0115, abs=0.001)
    assert row["tissue_fraction"] == pytest.approx(0.401, abs=0.005)


@pytest.mark.parametrize("microns, low, high", [(0, 0, 0.02), (2, 0, 0.03), (8, 0.8, 1), (12, 0.95, 1)])
def test_the_real_slide_out_of_focus(microns, low, high, real_slide, tmp_path):
    image = pipeline.load_image(str(real_slide), "1/1", tmp_path)
    whole = image.picture("1/1")
    rgb = defocused(whole, DEFOCUS * microns / image.mpp) if microns else whole
    small, large = (cv2.resize(rgb[:rgb.shape[0] // by * by, :rgb.shape[1] // by * by], None, fx=1 / by, fy=1 / by,
                               interpolation=cv2.INTER_AREA) for by in (16, 4))
    tissue = pixels.tissue_mask(small, np.full(small.shape[:2], 255, np.uint8))
    tissue = cv2.resize(tissue, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    large = large[:tissue.shape[0], :tissue.shape[1]]
    blurry = pixels.blurry_mask(np.ascontiguousarray(large), tissue, 7, 0.05)
    assert low <= cv2.countNonZero(blurry) / cv2.countNonZero(tissue) <= high


@pytest.mark.parametrize("sizes", [("1.25x", "5x"), ("1.25x", "3.3x"), ("1/13", "1/3.7"), ("1.25x", "1.25x"),
                                   ("2.5x", "1.25x"), ("1/16", "1/1")], ids=" ".join)
@pytest.mark.parametrize("radius", [7, 2])
def test_tiles_give_the_figure_of_the_whole_picture(sizes, radius, real_slide, small_slides, tmp_path):
    overview, blur = sizes
    for slide in (real_slide, small_slides / "small-2.svs"):
        image = pipeline.load_image(str(slide), overview, tmp_path)
        pipeline.tissue_segmentation_simple(image, overview)
        percent_blurry = pipeline.identifyBlurryRegions(image, overview, blur, radius, 0.05)
        tissue, rgb = image.load_mask("tissue_seg.png"), image.picture(blur)
        rows, columns = (tissue_tiles.nearest(of, to) for of, to in zip(tissue.shape, rgb.shape, strict=False))
        wide = np.ascontiguousarray(tissue[rows][:, columns])
        whole = pixels.blurry_mask(rgb, wide, radius, 0.05)
        assert percent_blurry == cv2.countNonZero(whole) / cv2.countNonZero(wide)
        rows, columns = (tissue_tiles.nearest(of, to) for of, to in zip(rgb.shape, tissue.shape, strict=False))
        assert np.array_equal(image.load_mask("blurry.png"), whole[rows][:, columns])


@pytest.mark.parametrize("side", [64, 200, 1000])
def test_tiles_of_any_size_give_the_same_figure(side, small_slides, tmp_path):
    image = pipeline.load_image(str(small_slides / "small-2.svs"), "1.25x", tmp_path)
    pipeline.tissue_segmentation_simple(image, "1.25x")
    percent_blurry = pipeline.identifyBlurryRegions(image, "1.25x", "5x", 7, 0.05)
    plan, tissue = image.plan("5x"), image.load_mask("tissue_seg.png")
    windows = reading.read_windows(image.path, image.facts, plan, pixels.filter_reach(7) + 1, wanted=tissue, side=side)
    found = [(cv2.countNonZero(pixels.blurry_mask(tile.rgb, tile.tissue, 7, 0.05)), cv2.countNonZero(tile.tissue))
             for tile in tissue_tiles.tiles(windows, plan.width, plan.height, tissue,
                                            pixels.filter_reach(7))]
    assert len(found) > (1 if side < 500 else 0)
    blurry, area = np.sum(found, axis=0)
    assert percent_blurry == blurry / area


def test_steps_leave_their_masks_and_give_fractions(small_slides, tmp_path):
    slide = str(small_slides / "small-2.svs")
    image = pipeline.load_image(slide, "1.25x", tmp_path)
    found = pipeline.tissue_segmentation_simple(image, "1.25x")
    percent_blurry = pipeline.identifyBlurryRegions(image, "1.25x", "1.25x", 7, 0.05)
    tissue, blurry = (cv2.imread(str(tmp_path / f"small-2.svs_{kind}.png"), cv2.IMREAD_UNCHANGED)
                      for kind in ("tissue_seg", "blurry"))
    assert tissue.dtype == np.uint8 and set(np.unique(tissue)) == {0, 255}
    assert tissue.shape == blurry.shape == image.picture("1.25x").shape[:2]
    assert found.fraction == pytest.approx((tissue > 0).mean()) and found.warnings == []
    assert percent_blurry == pytest.approx((blurry > 0).sum() / (tissue > 0).sum())
    assert not (blurry & ~tissue).any()


def test_blur_step_needs_the_tissue_step(small_slides, tmp_path):
    image = pipeline.load_image(str(small_slides / "small-1.svs"), "1.25x", tmp_path)
    with pytest.raises(SlideError, match=r"small-1\.svs has no small-1\.svs_tissue_seg\.png yet.*upstream_tasks"):
        pipeline.identifyBlurryRegions(image, "1.25x", "5x", 7, 0.05)


def test_a_blur_size_above_the_slides_own_is_a_failed_row(small_slides, tmp_path):
    row = pipeline.check_slide(str(small_slides / "small-1.svs"), output=tmp_path, **DEFAULTS | {
        "blur_work_size": "40x"})
    assert row["status"] == "failed" and "40x" in row["error"] and "--blur-work-size 20x or less" in row["error"]


@pytest.mark.parametrize("percent_blurry, blur_max, over",
                         [(0.06, 0.05, True), (0.05, 0.05, False), (None, 0.05, False)])
def test_check_blurry(percent_blurry, blur_max, over):
    assert pipeline.check_blurry(percent_blurry, blur_max) is over


def test_blurry_slide_is_told(small_slides, tmp_path, caplog):
    row = pipeline.check_slide(str(small_slides / "small-2.svs"), output=tmp_path, **DEFAULTS)
    truth = cv2.imread(str(truth_path(small_slides / "small-2.svs")), cv2.IMREAD_UNCHANGED)
    assert row["status"] == "rescan"
    assert row["percent_blurry"] == pytest.approx((truth == 255).sum() / (truth > 0).sum(), abs=0.05)
    assert "small-2.svs" in caplog.text and "please rescan" in caplog.text
