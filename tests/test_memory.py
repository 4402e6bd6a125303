"""Peak memory does not grow with the number of slides."""

import gc

import pytest

from BaseImage import BaseImage
from slideqc.slides import tiff


@pytest.mark.parametrize("script", ["pipeline.py", "pipeline_parallel.py"])
def test_40_slides_need_no_more_memory_than_8(script, peaks):
    few, many = peaks(script)
    assert many <= 1.05 * few, f"peak of 8 slides {few}, of 40 slides {many}"


def test_the_tables_of_two_slides_are_kept(small_slides):
    """A full-size slide has some 100,000 tiles. Tables of older slides are freed, not left to the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        slides = sorted(small_slides.glob("*.svs"))
        for slide in slides:
            BaseImage(slide).picture("1.25x")
        assert len(slides) == 3
        held = sum(isinstance(held, tiff.Page) for held in gc.get_objects())
        assert 0 < held <= sum(len(tiff.pages(slide)) for slide in slides[-2:])
    finally:
        gc.enable()
