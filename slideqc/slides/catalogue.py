"""The slides there are: the list of the real ones, what proves a file to be one of them, and what a folder holds."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

LARGE = 100_000_000  # bytes; slides above this are fetched only when asked for
SLIDE_ENDINGS = {".svs", ".ndpi", ".tif", ".tiff", ".scn", ".bif", ".svslide"}


@dataclass(frozen=True)
class Slide:
    """One row of slides.tsv."""

    name: str
    bytes: int
    sha256: str
    licence: str
    url: str

    @property
    def large(self) -> bool:
        """Is it so big that it must be asked for?"""
        return self.bytes > LARGE


def listed() -> list[Slide]:
    """The real slides of slides.tsv, in its order."""
    lines = Path(__file__).with_name("slides.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Slide(name, int(size), *rest) for name, size, *rest in rows]


def megabytes(size: int) -> str:
    """A size as people say it: `1.9 MB`, `178 MB`."""
    return f"{size / 1e6:.1f} MB" if size < 9_950_000 else f"{size / 1e6:.0f} MB"


def flaw(path: Path, slide: Slide) -> str | None:
    """What is wrong with the file at `path`, said so that it follows a subject; None if it is that slide."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if size == slide.bytes and hashlib.file_digest(file, "sha256").hexdigest() == slide.sha256:
            return None
    if looks_like_a_page(head):
        return "looks like a web page, not a slide (has this network a sign-in page?)"
    if size != slide.bytes:
        return f"has {size:,} bytes instead of {slide.bytes:,}"
    return "has another sha256 than the list of slides says"


def looks_like_a_page(head: bytes) -> bool:
    """Do these first bytes begin a web page, as sign-in pages and Drive's warnings do?"""
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def slides_in(folder: Path) -> list[Path]:
    """The files of a folder that are named like slides, sorted; none if there is no folder."""
    found = folder.glob("*") if folder.is_dir() else []
    return sorted(path for path in found if is_slide_name(path.name))


def is_slide_name(name: str) -> bool:
    """Does it end as slides do? Hidden files, such as those that macOS leaves on shared drives, are none."""
    return Path(name).suffix.lower() in SLIDE_ENDINGS and not name.startswith(".")


def table(folder: Path) -> str:
    """The real slides with size and licence, what of them is in `folder`, and what else is there."""
    slides = listed()
    rows = [("slide", "size", "licence", f"in {folder.name}")]
    for slide in slides:
        path = folder / slide.name
        if path.is_file():
            found = flaw(path, slide) or "yes, verified"
        else:
            found = "no, --large fetches it" if slide.large else "no"
        rows.append((slide.name, megabytes(slide.bytes), slide.licence, found))
    names = {slide.name for slide in slides}
    rows += [(path.name, megabytes(path.stat().st_size), "", "yes") for path in slides_in(folder)
             if path.name not in names]
    return "\n".join(f"{name:26}{size:>8}  {licence:15}{found}" for name, size, licence, found in rows)


def summary(folder: Path) -> tuple[int, str]:
    """How many slides of `folder` can be worked on, and in words what it holds."""
    sizes = {slide.name: slide.bytes for slide in listed()}
    found = {path.name: path.stat().st_size for path in slides_in(folder)}
    whole = [name for name, size in found.items() if sizes.get(name, size) == size]
    made = sum(name.startswith("generated-") for name in whole)
    planted = sum(name.startswith("planted-") for name in whole)
    counts = {"real": len(whole) - made - planted, "generated": made, "planted": planted,
              "not whole": len(found) - len(whole)}
    parts = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "nothing to work on"
    return len(whole), f"{len(found)} slide{'s' * (len(found) != 1)}, {megabytes(sum(found.values()))}: {parts}"
