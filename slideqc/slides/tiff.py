"""The directories of a TIFF file, read once: what each page is, and where its tiles or strips lie.

Every whole-slide format that is TIFF at heart is read here: classic, BigTIFF, and Hamamatsu's NDPI, whose offsets have
eight bytes. What lies beyond the end of the file shows that the file is not whole.
"""

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from slideqc.errors import SlideError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NUMBERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
TEXT = 2
NDPI = 65420  # the tag that marks Hamamatsu's files

# The tags that matter here, by their names in the TIFF specification.
SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 254, 256, 257, 258, 259, 262, 270
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_COUNTS, PLANAR = 273, 274, 277, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT, JPEG_TABLES = 322, 323, 324, 325, 339, 347
READ = {SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES,
        STRIP_COUNTS, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT, JPEG_TABLES, NDPI}


class Page(NamedTuple):
    """One directory: its tags, numbers as arrays and texts as bytes."""

    number: int
    tags: dict[int, np.ndarray | bytes]

    def value(self, tag: int, default: int = 0) -> int:
        """The first number of a tag."""
        return int(self.tags[tag][0]) if len(self.tags.get(tag, b"")) else default

    @property
    def description(self) -> str:
        """What the page says of itself."""
        return bytes(self.tags.get(DESCRIPTION, b"")).rstrip(b"\0").decode("utf-8", "replace")

    @property
    def tiled(self) -> bool:
        """Is it stored in tiles? Otherwise in strips."""
        return TILE_OFFSETS in self.tags

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where its tiles or strips lie, row by row: their offsets in the file, and how many bytes each of them has."""
        tags = (TILE_OFFSETS, TILE_COUNTS if TILE_COUNTS in self.tags else STRIP_COUNTS) if self.tiled else (
            STRIP_OFFSETS, STRIP_COUNTS)
        offsets, counts = (np.asarray(self.tags.get(tag, ()), np.int64) for tag in tags)
        return (offsets, counts) if len(offsets) == len(counts) else (offsets[:0], counts[:0])


def is_tiff(path: Path) -> bool:
    """Does the file begin as a TIFF file does?"""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def pages(path: Path) -> tuple[Page, ...]:
    """The pages of a TIFF file, without those that only other pages refer to.

    Raises SlideError where a directory or the pixels of a page lie beyond the end of the file, ValueError where the
    file is no TIFF.
    """
    found = path.stat()
    return _pages(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2)  # the steps of the pipeline ask for the same slide in turn
def _pages(path: Path, *stamp: int) -> tuple[Page, ...]:
    with path.open("rb") as file:
        reader = _Reader(file, path.suffix.lower() == ".ndpi")
        found = reader.pages()
        if not reader.ndpi and NDPI in found[0].tags:
            reader = _Reader(file, True)
            found = reader.pages()
    for page in found:
        reader.expect(int((np.add(*page.places) * (page.places[1] > 0)).max(initial=0)), "pixels run")
    return found


class _Reader:
    """Reads directories from an open file."""

    def __init__(self, file: BinaryIO, ndpi: bool) -> None:
        self.file, self.ndpi = file, ndpi
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(16)
        if start[:4] not in MAGIC:
            raise ValueError("no TIFF file")
        self.order = "<" if start[:2] == b"II" else ">"
        self.big = start[2:4] in (b"+\0", b"\0+")
        self.expect(16 if self.big or ndpi else 8, "header runs")
        self.first = self._number(start[8:] if self.big else start[4:], "Q" if self.big or ndpi else "I")

    def _number(self, data: bytes, letter: str) -> int:
        return struct.unpack_from(self.order + letter, data)[0]

    def expect(self, end: int, what: str) -> None:
        """Raise SlideError if the file ends before that byte."""
        if end > self.size:
            raise SlideError(f"is truncated (its {what} to byte {end:,}, the file ends at {self.size:,}): "
                             "copy it again")

    def _read(self, offset: int, size: int, what: str) -> bytes:
        self.expect(offset + size, what)
        self.file.seek(offset)
        return self.file.read(size)

    def pages(self) -> tuple[Page, ...]:
        """All pages, in the order of the file."""
        found: list[Page] = []
        offset, seen = self.first, set()
        while offset and offset not in seen:
            seen.add(offset)
            tags, offset = self._directory(offset)
            found.append(Page(len(found), tags))
        if not found:
            raise ValueError("a TIFF file without a directory")
        return tuple(found)

    def _directory(self, offset: int) -> tuple[dict[int, np.ndarray | bytes], int]:
        """The tags of one directory, and where the next one is."""
        what = "directories run"
        count_size, entry_size = (8, 20) if self.big else (2, 12)
        count = self._number(self._read(offset, count_size, what), "Q" if self.big else "H")
        if count > 4096:
            raise ValueError("a TIFF file with a damaged directory")
        link_size = 8 if self.big or self.ndpi else 4
        body = self._read(offset + count_size, count * entry_size + link_size + self.ndpi * 4 * count, what)
        link = self._number(body[count * entry_size:], "Q" if link_size == 8 else "I")
        tags = {}
        for index in range(count):
            entry = body[index * entry_size:(index + 1) * entry_size]
            tag, kind = struct.unpack_from(self.order + "HH", entry)
            if tag in READ and (kind in NUMBERS or kind == TEXT):
                upper = body[count * entry_size + link_size + 4 * index:][:4] if self.ndpi else b""
                tags[tag] = self._value(kind, entry[4:], upper, "directories run")
        return tags, link

    def _value(self, kind: int, rest: bytes, upper: bytes, what: str) -> np.ndarray | bytes:
        """A tag's value; `upper` are the upper four bytes of a small one, or of its place, that an NDPI file adds."""
        count = self._number(rest, "Q" if self.big else "I")
        place = rest[8:] if self.big else rest[4:]
        size = count * (1 if kind == TEXT else int(NUMBERS[kind][1]))
        if size > len(place):
            data = self._read(self._number(place + upper, "Q" if self.big or self.ndpi else "I"), size, what)
        elif self.ndpi and count == 1 and kind == 4:  # a number beyond four bytes
            return np.frombuffer(place + upper, "<u8")
        else:
            data = place[:size]
        return data if kind == TEXT else np.frombuffer(data, self.order + NUMBERS[kind])
