"""Tiles of a TIFF slide that are JPEG streams: their tables, their colours, their pixels.

A tile's stream lacks the tables, because TIFF stores them once for each page. The photometric tag of the page names the
colours (TIFF Technical Note 2). JFIF and Adobe markers name them, too, but may be wrong; OpenSlide ignores them.
"""

from collections.abc import Iterator

import numpy as np
import simplejpeg

from slideqc.errors import SlideError
from slideqc.slides import refused

SOI = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
COMMENT = 0xFE
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # an APP14 segment; the last byte, the transform, follows


def head(tables: bytes, coded_as_rgb: bool) -> bytes:
    """What every tile of a page begins with: the colours as the page's tag names them, then the page's tables."""
    return SOI + ADOBE + (b"\x00" if coded_as_rgb else b"\x01") + b"".join(_segments(tables))


def decode(stream: bytes, page_head: bytes, width: int, height: int) -> np.ndarray:
    """The pixels of one tile, uint8 (height, width, 3).

    Decodes strictly, since libjpeg by itself paints over damaged data and says nothing. Raises ValueError for damage,
    SlideError for a tile of another size.
    """
    pixels = simplejpeg.decode_jpeg(b"".join([page_head, *_segments(stream)]), "RGB",
                                    fastdct=False, fastupsample=False, strict=True)
    if pixels.shape != (height, width, 3):
        raise SlideError(refused.wrong_size(width, height, *pixels.shape[1::-1]))
    return pixels


def _segments(stream: bytes) -> Iterator[bytes]:
    """The segments of a stream, without comments and those of applications; the first scan and the rest are one."""
    at = len(SOI) if stream.startswith(SOI) else 0
    while at + 2 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
            continue
        if marker == END_OF_IMAGE:
            return
        if marker == START_OF_SCAN:
            break
        end = at + 2 + int.from_bytes(stream[at + 2:at + 4])
        if not (0xE0 <= marker <= 0xEF or marker == COMMENT):
            yield stream[at:end]
        at = end
    yield stream[at:]
