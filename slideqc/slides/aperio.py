"""Write Aperio slides (.svs) that OpenSlide can read: TIFF files with one page of JPEG tiles for each level.

tifffile cannot write them here: without the imagecodecs package (79 MB) it writes no JPEG pages,
not even from tiles that are already encoded.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

import cv2
import numpy as np
import simplejpeg

TILE = 256
QUALITY, FINE = 65, 90               # JPEG quality, 0–100, of large and of small levels
GLASS = 242                          # gray value that fills tiles beyond the edge of the slide
HEADER = b"II*\0\0\0\0\0"            # little-endian TIFF; write_directories fills in the offset of the first directory
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
JFIF, START_OF_SCAN, TABLES = 0xE0, 0xDA, (0xDB, 0xC4)
TYPES = {"B": 7, "H": 3, "I": 4, "s": 2}  # format character of struct → number of the TIFF type


def description(width: int, height: int, facts: dict[str, str]) -> str:
    """The ImageDescription (TIFF tag 270) of an Aperio slide: its size in pixels, and `facts`: AppMag, MPP."""
    properties = "".join(f"|{key} = {value}" for key, value in facts.items())
    return f"Aperio Image Library, generated\r\n{width}x{height} ({TILE}x{TILE}) JPEG/RGB Q={QUALITY}{properties}"


def tiles(picture: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a picture, uint8 (height, width, 3), into tiles, uint8 (TILE, TILE, 3), row by row.

    Tiles at the right and lower edge are padded with the colour of glass.
    """
    below, right = (-side % TILE for side in picture.shape[:2])
    if below or right:
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(GLASS,) * 3)
    for top in range(0, len(picture), TILE):
        for left in range(0, picture.shape[1], TILE):
            yield picture[top:top + TILE, left:left + TILE]


def jpeg(picture: np.ndarray, quality: int = QUALITY) -> bytes:
    """Encode a picture, uint8 (height, width, 3), as JPEG without tables.

    TIFF stores the tables once for each page (TIFF Technical Note 2).
    """
    return b"".join(segment for segment in _segments(picture, quality)
                    if segment[1] not in TABLES and segment[1] != JFIF)


def jpeg_tables(quality: int) -> bytes:
    """The JPEG tables that belong to every picture which `jpeg` encodes with this quality."""
    segments = _segments(np.zeros((16, 16, 3), np.uint8), quality)
    return b"".join([SOI, *(segment for segment in segments if segment[1] in TABLES), EOI])


def _segments(picture: np.ndarray, quality: int) -> list[bytes]:
    """Encode a picture and split the JPEG stream at its markers; the last segment is the scan and all after it."""
    stream = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "RGB", "420")
    segments, at = [SOI], len(SOI)
    while stream[at + 1] != START_OF_SCAN:
        end = at + 2 + int.from_bytes(stream[at + 2:at + 4])
        segments.append(stream[at:end])
        at = end
    return [*segments, stream[at:]]


class Page:
    """One page of a TIFF file: its size in pixels, its ImageDescription, and where its tiles are in the file."""

    def __init__(self, width: int, height: int, image_description: str, quality: int = QUALITY,
                 tiled: bool = True) -> None:
        self.width, self.height, self.quality, self.tiled = width, height, quality, tiled
        self.image_description = image_description
        self.columns = -(-width // TILE)
        # Offset and byte count of each tile: (2, rows, columns). A page without tiles has one strip.
        self.locations = np.zeros((2, -(-height // TILE), self.columns) if tiled else (2, 1, 1), np.uint32)
        self.offset_of: dict[bytes, int] = {}

    def write(self, file: BinaryIO, row: int, column: int, data: bytes, repeats: bool = False) -> None:
        """Append the encoded tile `data`, or the only strip, to the file. A tile outside the page is not written.

        If `repeats`, equal data is stored once: TIFF tiles may share their bytes. This saves space for bare glass.
        """
        if row < self.locations.shape[1] and column < self.locations.shape[2]:
            offset = self.offset_of.get(data) if repeats else None
            if offset is None:
                offset = file.tell()
                file.write(data)
                if repeats:
                    self.offset_of[data] = offset
            self.locations[:, row, column] = offset, len(data)

    def tags(self) -> dict[int, tuple[str, Sequence[int] | bytes]]:
        """The TIFF tags of the page, sorted by code: code → (format character of struct, values)."""
        offsets, counts = self.locations.reshape(2, -1)
        where = {324: ("I", offsets), 325: ("I", counts)} if self.tiled else {273: ("I", offsets), 279: ("I", counts)}
        shape = {322: ("H", [TILE]), 323: ("H", [TILE])} if self.tiled else {278: ("I", [self.height])}
        text = self.image_description.encode("ascii") + b"\0"
        return dict(sorted({
            254: ("I", [0]), 256: ("I", [self.width]), 257: ("I", [self.height]), 258: ("H", [8, 8, 8]),
            259: ("H", [7]), 262: ("H", [6]), 270: ("s", text), 277: ("H", [3]), 284: ("H", [1]),
            347: ("B", jpeg_tables(self.quality)), 530: ("H", [2, 2]), **where, **shape}.items()))


def add_level(file: BinaryIO, picture: np.ndarray, image_description: str) -> Page:
    """Append a level, uint8 (height, width, 3), to the file as JPEG tiles; returns its page."""
    page = Page(picture.shape[1], picture.shape[0], image_description, FINE)
    with ThreadPoolExecutor(2) as pool:
        for index, tile in enumerate(pool.map(partial(jpeg, quality=FINE), tiles(picture))):
            page.write(file, index // page.columns, index % page.columns, tile)
    return page


def add_thumbnail(file: BinaryIO, picture: np.ndarray, image_description: str) -> Page:
    """Append a thumbnail of a picture, uint8 (height, width, 3), as one strip; returns its page.

    Readers take the second page of an Aperio slide for its thumbnail. Without one, they would take a level.
    """
    small = smaller(picture, -(-max(picture.shape) // 1024))
    page = Page(small.shape[1], small.shape[0], image_description, FINE, tiled=False)
    page.write(file, 0, 0, jpeg(small, FINE))
    return page


def smaller(picture: np.ndarray, by: int) -> np.ndarray:
    """Reduce a uint8 picture by the integer factor `by`: the mean of `by` × `by` pixels. The size is rounded down."""
    height, width = (side // by for side in picture.shape[:2])
    cropped = np.ascontiguousarray(picture[:height * by, :width * by])
    return cv2.resize(cropped, (width, height), interpolation=cv2.INTER_AREA)


def write_directories(file: BinaryIO, pages: Iterable[Page]) -> None:
    """Complete a little-endian TIFF file: append one directory for each page, after the header and all tiles."""
    link = 4  # where the offset of the next directory is stored
    for page in pages:
        entries = []
        for code, (letter, values) in page.tags().items():
            data = values if letter in "sB" else struct.pack(f"<{len(values)}{letter}", *values)
            if len(data) > 4:
                file.write(bytes(file.tell() % 2))
                offset = file.tell()
                file.write(data)
                data = struct.pack("<I", offset)
            entries.append(struct.pack("<HHI", code, TYPES[letter], len(values)) + data.ljust(4, b"\0"))
        file.write(bytes(file.tell() % 2))
        start = file.tell()
        file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
        file.seek(link)
        file.write(struct.pack("<I", start))
        link = file.seek(0, 2) - 4
