"""Working sizes: what can be asked for, and which level answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideqc.slides.magnification import (
    LEAST_SIDE,
    Plan,
    base_magnification,
    downsample_for,
    oddities,
    parse_work_size,
    plan,
    refuse_too_large,
)


@pytest.mark.parametrize("text, downsample", [("1.25x", 16), ("20x", 1), ("20.1x", 1), ("5", 4), (" 2.5X ", 8),
                                              (".5x", 40), ("1/16", 16), ("1 / 2.5", 2.5), ("1/1", 1)])
def test_what_a_working_size_means_at_20x(text, downsample):
    assert downsample_for(text, 20) == pytest.approx(downsample)


@pytest.mark.parametrize("text", ["0x", "0", "-1x", "abc", "", "x", "1.25xx", "nan", "infx", "1e3x", "1/0", "1/0.5",
                                  "2/16", "1/-4", "9" * 400])
def test_what_is_no_working_size(text):
    with pytest.raises(ValueError, match="is not a working size: give a magnification"):
        parse_work_size(text)


def test_a_size_above_the_slides_own_names_both():
    with pytest.raises(ValueError, match=r"40x is above the slide's own 20x.*--image-work-size 20x or less"):
        downsample_for("40x", 20)


def test_a_slide_without_magnification_names_property_and_flag():
    with pytest.raises(ValueError, match=r"openslide\.objective-power.*openslide\.mpp-x.*--image-work-size 1/16"):
        downsample_for("1.25x", None)
    assert downsample_for("1/16", None) == 16


@pytest.mark.parametrize("power, mpp, magnification", [
    (20, 0.499, 20), (None, 0.25, 40), (None, 0.5, 20), (None, None, None), (40, None, 40),
    (20, 353, 20), (4000, 0.5, 20), (None, 353, None), (None, 0.001, None), (4000, None, None), (0.01, 353, None)])
def test_base_magnification(power, mpp, magnification):
    """What no slide has counts as not stated."""
    assert base_magnification(power, mpp) == magnification


@pytest.mark.parametrize("power, mpp, words", [
    (20, 0.5, None), (20, 0.499, None), (40, 0.2269, None), (20, 0.36, None), (None, None, None), (20, None, None),
    (20, 0.2428, "20x stated beside 0.2428 µm/px, which is 41.2x"), (20, 0.76, "which is 13.2x"),
    (5, 0.5, "5x stated beside 0.5 µm/px"), (20, 353, "353 µm/px, which no slide has: the stated 20x is used"),
    (None, 353, "a pixel size of 353 µm/px, which no slide has: no magnification is known"),
    (4000, 0.5, "a magnification of 4000x, which no slide has: 20x taken from 0.5 µm/px"),
    (None, 0.5, "no magnification stated: 20x taken from 0.5 µm/px")])
def test_odd_magnifications_are_told(power, mpp, words):
    """Magnification and pixel size that are 1.5 times apart, or that no slide has."""
    found = oddities(power, mpp)
    assert len(found) == bool(words) and (not words or words in found[0])


@pytest.mark.parametrize("power, mpp, words", [(None, 352.78, r"352\.8 µm/px, which no slide has: give"),
                                               (None, 0.01, r"0\.01 µm/px, which no slide has: give"),
                                               (900, None, "900x, which no slide has: give")])
def test_nonsense_names_the_way_out(power, mpp, words):
    """And never a magnification below that nonsense."""
    with pytest.raises(ValueError, match=f"{words}.* such as --image-work-size 1/16 --blur-work-size 1/4$"):
        downsample_for("5x", power, mpp, "--blur-work-size")
    assert downsample_for("1/16", power, mpp) == 16


def test_a_level_within_one_percent_is_that_level():
    # An Aperio slide of 46000×32914: its nominal 16 is 16.0005.
    levels, downsamples = [(46000, 32914), (11500, 8228), (2875, 2057)], [1.0, 4.00012, 16.0005]
    assert plan(16, levels, downsamples) == (2, 1, 2875, 2057)
    assert plan(16.03, levels, downsamples) == (2, 1, 2875, 2057)
    assert plan(15.9, levels, downsamples) == (2, 1, 2875, 2057)
    assert plan(15.8, levels, downsamples)[:1] == (1,)
    assert plan(32, levels, downsamples) == (2, 2, 1437, 1028)
    assert plan(16, levels[:1], downsamples[:1]) == (0, 16, 2875, 2057)


@pytest.mark.parametrize("downsample", [1000, 100, 20])
def test_a_picture_of_a_few_pixels_is_refused(downsample):
    with pytest.raises(ValueError, match=r"has \d+×\d+ px at this.*give a larger --image-work-size"):
        plan(downsample, [(400, 300)], [1.0])
    assert plan(16, [(400, 300)], [1.0])[2:] == (25, 18)


@pytest.mark.parametrize("width, height, words", [(65_501, 16, "a JPEG picture ends at 65500 px"),
                                                  (32_769, 32_769, "up to 1073741824 px")])
def test_a_picture_that_no_file_holds_is_refused(width, height, words):
    with pytest.raises(ValueError, match=rf"{width}×{height} px.*{words}.*give a smaller --image-work-size"):
        refuse_too_large(Plan(0, 1.0, width, height))
    refuse_too_large(Plan(0, 1.0, 65_500, 16_000))


@given(st.floats(0.1, 100, allow_nan=False), st.integers(500, 100_000), st.integers(500, 100_000),
       st.lists(st.sampled_from([2, 4, 8, 16, 32, 64]), unique=True), st.floats(0.5, 80))
def test_plans_are_within_one_percent(magnification, width, height, pyramid, base):
    if magnification > base:
        return
    downsample = downsample_for(f"{magnification}x", base)
    dimensions = [(width // ds, height // ds) for ds in (1, *sorted(pyramid))]
    downsamples = [(width / w + height / h) / 2 for w, h in dimensions]
    try:
        level, reduction, wide, high = plan(downsample, dimensions, downsamples)
    except ValueError:
        assert min(width, height) / downsample < LEAST_SIDE + 1
        return
    assert downsamples[level] <= downsample * 1.01 and reduction >= 1
    # Nothing coarser would do: the chosen level is the cheapest to read.
    assert all(ds > downsample * 1.01 for ds in downsamples[level + 1:])
    assert math.isclose(reduction * downsamples[level], downsample, rel_tol=0.021)
    assert (wide, high) == tuple(int(side / reduction) for side in dimensions[level])
