"""Peak memory does not grow with the number of slides."""

import gc
import shutil
import subprocess
import sys

import pytest
import tifffile

from BaseImage import BaseImage
from conftest import HOME, environment

PEAK = """
import pathlib, resource, runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(script).parent))
try:
    runpy.run_path(script, run_name="__main__")
finally:
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(max(peaks))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="reads peak memory as POSIX systems tell it")
@pytest.mark.parametrize("script", ["pipeline.py", "pipeline_parallel.py"])
def test_64_slides_need_no_more_memory_than_8(script, real_slide, tmp_path):
    peaks = []
    for number in (8, 64):
        folder = tmp_path / str(number)
        folder.mkdir()
        for index in range(number):
            shutil.copy(real_slide, folder / f"{index}.svs")
        # At 10x the pictures outweigh what the imports take: 64 of them kept would double the peak.
        command = [sys.executable, "-c", PEAK, HOME / script, "--folder", folder, "--output", folder / "out",
                   "--image-work-size", "10x"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path),
                              check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] <= 1.10 * peaks[0], f"peak of 8 slides {peaks[0]}, of 64 slides {peaks[1]}"


def test_the_tables_of_a_slide_go_with_it(small_slides):
    """A slide of full size lists some 100,000 tiles: none may wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        BaseImage(small_slides / "small-1.svs").picture("1.25x")
        assert not [held for held in gc.get_objects() if isinstance(held, tifffile.TiffPage)]
    finally:
        gc.enable()
