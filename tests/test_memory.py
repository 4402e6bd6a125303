"""Peak memory does not grow with the number of slides."""

import gc

import pytest
import tifffile

from BaseImage import BaseImage


@pytest.mark.parametrize("script", ["pipeline.py", "pipeline_parallel.py"])
def test_64_slides_need_no_more_memory_than_8(script, peaks):
    few, many = peaks(script)
    assert many <= 1.10 * few, f"peak of 8 slides {few}, of 64 slides {many}"


def test_the_tables_of_a_slide_go_with_it(small_slides):
    """A full-size slide has some 100,000 tiles. Their tables must be freed at once, not by the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        BaseImage(small_slides / "small-1.svs").picture("1.25x")
        assert not [held for held in gc.get_objects() if isinstance(held, tifffile.TiffPage)]
    finally:
        gc.enable()
