"""The list of real slides, the check that a file is one of them, and the slides in a folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

LARGE = 100_000_000  # bytes; larger slides are fetched only with --large
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
        """Is it fetched only with --large?"""
        return self.bytes > LARGE


def listed() -> list[Slide]:
    """The real slides, in the order of slides.tsv."""
    lines = Path(__file__).with_name("slides.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Slide(name, int(size), *rest) for name, size, *rest in rows]


def megabytes(size: int) -> str:
    """A size in bytes as text, such as `1.9 MB` or `178 MB`."""
    return f"{size / 1e6:.1f} MB" if size < 9_950_000 else f"{size / 1e6:.0f} MB"


def flaw(path: Path, slide: Slide) -> str | None:
    """What is wrong with the file at `path`, without a subject: `has 5 bytes instead of 7`; None if it is `slide`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if size == slide.bytes and hashlib.file_digest(file, "sha256").hexdigest() == slide.sha256:
            return None
    if looks_like_a_page(head):
        return "looks like a web page, not a slide (does this network have a sign-in page?)"
    if size != slide.bytes:
        return f"has {size:,} bytes instead of {slide.bytes:,}"
    return "has a wrong sha256"


def looks_like_a_page(head: bytes) -> bool:
    """Are these the first bytes of a web page, such as a sign-in page or a warning from Google Drive?"""
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--"))


def slides_in(folder: Path) -> list[Path]:
    """The files of a folder whose names end like those of slides, sorted; empty if the folder does not exist."""
    found = folder.glob("*") if folder.is_dir() else []
    return sorted(path for path in found if is_slide_name(path.name))


def is_slide_name(name: str) -> bool:
    """Does the name end like that of a slide? Hidden files, such as those of macOS on shared drives, do not count."""
    return Path(name).suffix.lower() in SLIDE_ENDINGS and not name.startswith(".")


def table(folder: Path) -> str:
    """A table, as text: every real slide with its size, its licence and whether `folder` has it; then other slides."""
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
    """The number of complete slides in `folder`, and a sentence that counts its slides by kind."""
    sizes = {slide.name: slide.bytes for slide in listed()}
    found = {path.name: path.stat().st_size for path in slides_in(folder)}
    complete = [name for name, size in found.items() if sizes.get(name, size) == size]
    made = sum(name.startswith("generated-") for name in complete)
    planted = sum(name.startswith("planted-") for name in complete)
    counts = {"real": len(complete) - made - planted, "generated": made, "planted": planted,
              "incomplete": len(found) - len(complete)}
    parts = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "no slide that can be checked"
    return len(complete), f"{len(found)} slide{'s' * (len(found) != 1)}, {megabytes(sum(found.values()))}: {parts}"
