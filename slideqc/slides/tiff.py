"""Opening a TIFF file with tifffile, for its tables."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tifffile


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file; afterwards its tables are free at once.

    The file and its pages refer to each other, so that the places of some 100,000 tiles would otherwise stay in
    memory until the garbage collector comes round.
    """
    with tifffile.TiffFile(path) as tiff:
        try:
            yield tiff
        finally:
            tiff.pages = None
