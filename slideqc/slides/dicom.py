"""DICOM slides: one slide is a series of files, one for each level, label and overview picture.

Of a file's header this reads what tells which files belong together; OpenSlide reads the pixels.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from slideqc.errors import SlideError

ENDINGS = (".dcm", ".dicom", ".dic")
IMPLICIT, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
# Tags, as group and element in one number.
SYNTAX, IMAGE_TYPE, SERIES = 0x0002_0010, 0x0008_0008, 0x0020_000E
MATRIX_WIDTH, MATRIX_HEIGHT, PIXELS = 0x0048_0006, 0x0048_0007, 0x7FE0_0010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
FRAMES = 0x5200_9230  # facts of each frame: long, and stored after all that is read here
WANTED = (SYNTAX, IMAGE_TYPE, SERIES, MATRIX_WIDTH, MATRIX_HEIGHT)
NO_FULL_SIZE = ("is a smaller copy of a slide, and the file of its DICOM series with the full size is not in the "
                "folder: copy the whole series")
LONG = (b"OB", b"OW", b"OF", b"OL", b"OD", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV")
OPEN = 0xFFFF_FFFF    # as a length: the element ends at a mark
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)  # the mark with which compressed pixels end


class File(NamedTuple):
    """One file of a series."""

    path: Path
    series: str
    kinds: tuple[str, ...]  # such as DERIVED, PRIMARY, VOLUME, RESAMPLED
    pixels: int             # of its level

    @property
    def rank(self) -> tuple[bool, int]:
        """The largest level of a series ranks highest."""
        return "VOLUME" in self.kinds, self.pixels


def is_dicom(path: Path) -> bool:
    """Does the file begin as a DICOM file does?"""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def one_a_series(paths: Iterable[Path]) -> list[Path]:
    """The file with the largest level of each series, and every file that is no readable DICOM file."""
    largest: dict[str, File] = {}
    others = []
    for path in paths:
        try:
            file = read(path)
        except (OSError, SlideError, ValueError):
            others.append(path)  # its row will say why
            continue
        if file.series not in largest or file.rank > largest[file.series].rank:
            largest[file.series] = file
    return [*others, *(file.path for file in largest.values())]


def refuse_incomplete(path: Path) -> None:
    """Raise SlideError where a file of the slide's series is cut off, or where its largest level is missing."""
    series = read(path).series
    files = []
    for sibling in sorted(path.parent.iterdir()):
        same = sibling.suffix.lower() == path.suffix.lower() and sibling.is_file() and is_dicom(sibling)
        if same and (file := read(sibling)).series == series:
            _refuse_cut(sibling, "it" if sibling == path else sibling.name)
            files.append(file)
    if files and "RESAMPLED" in max(files, key=lambda file: file.rank).kinds:
        raise SlideError(NO_FULL_SIZE)


def read(path: Path) -> File:
    """What a file's header says; SlideError where it ends within, ValueError where it is none."""
    with path.open("rb") as file:
        values = dict.fromkeys(WANTED, b"") | {tag: value for tag, value in _elements(file, "it") if value}
    texts = {tag: value.rstrip(b"\0 ").decode("ascii", "replace") for tag, value in values.items()}
    width, height = (int.from_bytes(values[tag], "little") for tag in (MATRIX_WIDTH, MATRIX_HEIGHT))
    return File(path, texts[SERIES] or str(path), tuple(texts[IMAGE_TYPE].split("\\")), width * height)


def _refuse_cut(path: Path, name: str) -> None:
    with path.open("rb") as file:
        file.seek(-min(len(END), path.stat().st_size), os.SEEK_END)
        if file.read() == END:
            return
        file.seek(0)
        found = PIXELS in [tag for tag, _ in _elements(file, name, whole=True)]
    if not found:
        raise SlideError(f"is truncated ({name} has no pixels): copy the whole series again")


def _elements(file: BinaryIO, name: str, whole: bool = False) -> list[tuple[int, bytes]]:
    """The tags of a file and the values of those that are wanted, up to its frames or, with `whole`, to its end."""
    if file.read(132)[128:] != b"DICM":
        raise ValueError("no DICOM file")
    size = os.fstat(file.fileno()).st_size
    found, implicit = [], False
    while file.tell() < size:
        tag, length = _head(file, name, implicit and file.tell() > 132)
        if tag >= FRAMES and not whole:
            break
        if length == OPEN:
            _skip(file, name, implicit)
            found.append((tag, b""))
            continue
        if file.tell() + length > size:
            raise SlideError(f"is truncated ({name} goes on to byte {file.tell() + length:,}, it ends at {size:,}): "
                             "copy it again")
        found.append((tag, file.read(length) if tag in WANTED else b""))
        if tag not in WANTED:
            file.seek(length, os.SEEK_CUR)
        if tag == SYNTAX:
            syntax = found[-1][1].rstrip(b"\0 ").decode("ascii", "replace")
            if syntax in (DEFLATED, BIG_ENDIAN):
                raise ValueError(f"DICOM in the transfer syntax {syntax}")
            implicit = syntax == IMPLICIT
    return found


def _head(file: BinaryIO, name: str, implicit: bool) -> tuple[int, int]:
    """The tag and the length of the element that comes next."""
    start = _exactly(file, 8, name)
    group, element = struct.unpack_from("<HH", start)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, int.from_bytes(start[4:], "little")
    if start[4:6] in LONG:
        return tag, int.from_bytes(_exactly(file, 4, name), "little")
    return tag, int.from_bytes(start[6:], "little")


def _skip(file: BinaryIO, name: str, implicit: bool) -> None:
    """Skip a sequence of items that states no length."""
    while (head := _head(file, name, implicit))[0] != SEQUENCE_END:
        tag, length = head
        if tag != ITEM:
            raise ValueError("damaged DICOM file")
        if length != OPEN:
            file.seek(length, os.SEEK_CUR)
            continue
        while (head := _head(file, name, implicit))[0] != ITEM_END:
            if head[1] == OPEN:
                _skip(file, name, implicit)
            else:
                file.seek(head[1], os.SEEK_CUR)


def _exactly(file: BinaryIO, size: int, name: str) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise SlideError(f"is truncated ({name} ends within an element): copy it again")
    return data
