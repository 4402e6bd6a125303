"""The Aperio file format, as far as OpenSlide asks for it: a TIFF file with a page of JPEG tiles for every level.

tifffile cannot write it without the large imagecodecs package, not even when the tiles are compressed already.
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
QUALITY, FINE = 65, 90               # of JPEG, 0–100: of the large levels, and of the small ones that people look at
GLASS = 242                          # gray value of what a tile shows beyond the edge of the slide
HEADER = b"II*\0\0\0\0\0"            # little-endian TIFF; the place of the first directory comes later
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
JFIF, START_OF_SCAN, TABLES = 0xE0, 0xDA, (0xDB, 0xC4)
TYPES = {"B": 7, "H": 3, "I": 4, "s": 2}  # struct's letter → TIFF's number


def description(width: int, height: int, facts: dict[str, str]) -> str:
    """What an Aperio slide of that size, in pixels, says of itself: `AppMag`, `MPP` and so on."""
    stated = "".join(f"|{key} = {value}" for key, value in facts.items())
    return f"Aperio Image Library, generated\r\n{width}x{height} ({TILE}x{TILE}) JPEG/RGB Q={QUALITY}{stated}"


def tiles(picture: np.ndarray) -> Iterator[np.ndarray]:
    """The picture in squares of `TILE` px, row by row; those that stick out are filled up with glass."""
    down, right = (-side % TILE for side in picture.shape[:2])
    if down or right:
        picture = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_CONSTANT, value=(GLASS,) * 3)
    for top in range(0, len(picture), TILE):
        for left in range(0, picture.shape[1], TILE):
            yield picture[top:top + TILE, left:left + TILE]


def jpeg(picture: np.ndarray, quality: int = QUALITY) -> bytes:
    """The picture as JPEG without its tables, which TIFF keeps once a page (TIFF Technical Note 2)."""
    return b"".join(piece for piece in _segments(picture, quality) if piece[1] not in TABLES and piece[1] != JFIF)


def jpeg_tables(quality: int) -> bytes:
    """The tables of every picture of that quality that `jpeg` makes."""
    pieces = _segments(np.zeros((16, 16, 3), np.uint8), quality)
    return b"".join([SOI, *(piece for piece in pieces if piece[1] in TABLES), EOI])


def _segments(picture: np.ndarray, quality: int) -> list[bytes]:
    """A picture's JPEG stream in pieces, one a marker; the last piece is the scan with all that follows."""
    stream = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "RGB", "420")
    pieces, at = [SOI], len(SOI)
    while stream[at + 1] != START_OF_SCAN:
        end = at + 2 + int.from_bytes(stream[at + 2:at + 4])
        pieces.append(stream[at:end])
        at = end
    return [*pieces, stream[at:]]


class Page:
    """One picture of a TIFF file: its size, its words, and where its pieces lie."""

    def __init__(self, width: int, height: int, words: str, quality: int = QUALITY, tiled: bool = True) -> None:
        self.width, self.height, self.words, self.quality, self.tiled = width, height, words, quality, tiled
        self.across = -(-width // TILE)
        self.places = np.zeros((2, -(-height // TILE), self.across) if tiled else (2, 1, 1), np.uint32)
        self.stored: dict[bytes, int] = {}

    def write(self, file: BinaryIO, row: int, column: int, piece: bytes, repeats: bool = False) -> None:
        """Append a tile, or the only strip, to the file; none if it would lie beyond the picture.

        A piece that `repeats` is stored once: TIFF lets tiles share their bytes, which spares bare glass a lot.
        """
        if row < self.places.shape[1] and column < self.places.shape[2]:
            at = self.stored.get(piece) if repeats else None
            if at is None:
                at = file.tell()
                file.write(piece)
                if repeats:
                    self.stored[piece] = at
            self.places[:, row, column] = at, len(piece)

    def tags(self) -> dict[int, tuple[str, Sequence[int] | bytes]]:
        """Its TIFF tags, in order: code → struct's letter for the type, values."""
        offsets, counts = self.places.reshape(2, -1)
        lies = {324: ("I", offsets), 325: ("I", counts)} if self.tiled else {273: ("I", offsets), 279: ("I", counts)}
        shape = {322: ("H", [TILE]), 323: ("H", [TILE])} if self.tiled else {278: ("I", [self.height])}
        words = self.words.encode("ascii") + b"\0"
        return dict(sorted({
            254: ("I", [0]), 256: ("I", [self.width]), 257: ("I", [self.height]), 258: ("H", [8, 8, 8]),
            259: ("H", [7]), 262: ("H", [6]), 270: ("s", words), 277: ("H", [3]), 284: ("H", [1]),
            347: ("B", jpeg_tables(self.quality)), 530: ("H", [2, 2]), **lies, **shape}.items()))


def add_level(file: BinaryIO, picture: np.ndarray, words: str) -> Page:
    """Append a picture, uint8 (height, width, 3), as tiles."""
    page = Page(picture.shape[1], picture.shape[0], words, FINE)
    with ThreadPoolExecutor(2) as pool:
        for index, tile in enumerate(pool.map(partial(jpeg, quality=FINE), tiles(picture))):
            page.write(file, index // page.across, index % page.across, tile)
    return page


def add_thumbnail(file: BinaryIO, picture: np.ndarray, words: str) -> Page:
    """Append a picture once more, small and in one strip: without it, readers take the second level for it."""
    small = smaller(picture, -(-max(picture.shape) // 1024))
    page = Page(small.shape[1], small.shape[0], words, FINE, tiled=False)
    page.write(file, 0, 0, jpeg(small, FINE))
    return page


def smaller(picture: np.ndarray, by: int) -> np.ndarray:
    """Mean over `by` × `by` pixels of an uint8 picture, the size rounded down."""
    height, width = (side // by for side in picture.shape[:2])
    whole = np.ascontiguousarray(picture[:height * by, :width * by])
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def write_directories(file: BinaryIO, pages: Iterable[Page]) -> None:
    """End a little-endian TIFF file, of which the header and all pieces are written, with its directories."""
    link = 4
    for page in pages:
        entries = []
        for code, (letter, values) in page.tags().items():
            data = values if letter in "sB" else struct.pack(f"<{len(values)}{letter}", *values)
            if len(data) > 4:
                file.write(bytes(file.tell() % 2))
                at = file.tell()
                file.write(data)
                data = struct.pack("<I", at)
            entries.append(struct.pack("<HHI", code, TYPES[letter], len(values)) + data.ljust(4, b"\0"))
        file.write(bytes(file.tell() % 2))
        start = file.tell()
        file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
        file.seek(link)
        file.write(struct.pack("<I", start))
        link = file.seek(0, 2) - 4
