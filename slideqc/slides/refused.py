"""Why a file cannot be checked: what it is, what is wrong with it, and what helps."""

import re
from pathlib import Path

from slideqc.errors import SlideError
from slideqc.slides import dicom, tiff

COMPRESSIONS = {6: "old JPEG", 22610: "JPEG XR", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
                34887: "LERC", 34925: "LZMA", 34933: "PNG", 34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP",
                50002: "JPEG XL", 52546: "JPEG XL"}
OTHERS = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture",
          b"%PDF": "a PDF document", b"PK\3\4": "a ZIP archive: unpack it", b"\x1f\x8b": "a gzip archive: unpack it"}
CONVERT = "convert it to JPEG in tiles, for example: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"


def refuse_missing(path: Path) -> None:
    """Raise SlideError where the file, or a folder that it needs, is not there; OSError where it cannot be opened."""
    if path.is_symlink() and not path.exists():
        raise SlideError(f"is a link to {path.readlink()}, which is not there: is the drive connected?")
    with path.open("rb") as file:  # says better than OpenSlide why a file cannot be opened
        if not file.read(1):
            raise SlideError("is empty (0 bytes): copy it again")
    if path.suffix.lower() == ".mrxs" and not (path.with_suffix("") / "Slidedat.ini").is_file():
        raise SlideError(f"needs the folder {path.stem} beside it, with Slidedat.ini and the pixels: copy that, too")


def refuse_incomplete(path: Path) -> None:
    """Raise SlideError where bytes are missing: such a slide may open, and give pixels, if other levels are whole."""
    if tiff.is_tiff(path):
        tiff.pages(path)
    elif dicom.is_dicom(path):
        dicom.refuse_incomplete(path)


def why_not_opened(path: Path, error: Exception) -> str:
    """Why OpenSlide does not open a file that exists."""
    try:
        refuse_incomplete(path)
    except SlideError as incomplete:
        return str(incomplete)
    except ValueError as damage:
        return f"is damaged ({damage}): take it from a backup, or scan it again"
    if tiff.is_tiff(path):
        return _why_no_tiff(tiff.pages(path), error)
    if "No such file" in str(error):
        return f"lacks a part ({error}): copy all files of the slide"
    with path.open("rb") as file:
        start = file.read(512)
    for magic, kind in OTHERS.items():
        if start.startswith(magic):
            return f"is not a slide but {kind}"
    if re.match(rb"\s*<(!doctype|html)", start, re.IGNORECASE):
        return "is not a slide but a web page, which some servers send in place of a file: download the file itself"
    if dicom.is_dicom(path):
        return f"is a DICOM file that OpenSlide does not read ({error}): {CONVERT}"
    return "is not a slide in a format that OpenSlide reads: is it whole, is it a slide?"


def _why_no_tiff(pages: tuple[tiff.Page, ...], error: Exception) -> str:
    if not pages[0].tiled:
        return f"is stored in strips, and OpenSlide reads tiles only: {CONVERT}"
    if number := re.search(r"compression: (\d+)", str(error)):
        name = COMPRESSIONS.get(int(number[1]), "something unknown")
        return f"is compressed with {name} (TIFF compression {number[1]}), which OpenSlide does not read: {CONVERT}"
    return f"is a TIFF file that OpenSlide does not read ({error}): {CONVERT}"


def why_not_read(path: Path, error: Exception) -> str:
    """What is wrong with the pixels of a file that could be opened."""
    if samples := re.search(r"(\d+)-bit samples", str(error)):
        return f"has pixels of {samples[1]} bits, which OpenSlide does not read: scale them to 8 bits, and {CONVERT}"
    if mismatch := re.search(r"expected (\d+)x(\d+), got (\d+)x(\d+)", str(error)):
        return wrong_size(*map(int, mismatch.groups()))
    return f"cannot be read ({error}): its pixels are damaged; take it from a backup, or scan it again"


def wrong_size(width: int, height: int, its_width: int, its_height: int) -> str:
    """The message for a tile whose size in px is not that of the tiles of its page."""
    return f"has a tile of {its_width}×{its_height} px among tiles of {width}×{height} px, no valid TIFF: {CONVERT}"
