"""The slides of a comparison: the user's own, or generated ones, which are kept for the next time."""

import logging
from pathlib import Path

from slideqc import flags
from slideqc.errors import CommandError
from slideqc.slides import generate

FULL, QUICK = 16, 6  # slides made
QUICK_SIZE = {"width": 12288, "height": 9216, "magnification": 20}  # px

logger = logging.getLogger("slideqc")


def find(folder: Path | None, filetype: str, wanted: int | None, quick: bool) -> list[Path]:
    """At most `wanted` slides of `folder`; without a folder, generated ones. CommandError if there are too few."""
    if not folder:
        number = wanted or (QUICK if quick else FULL)
        return _generate(flags.DATA / ("compare-quick" if quick else "compare"), number, quick)
    found = [Path(slide) for slide in flags.slides(folder, filetype)]
    if wanted and len(found) < wanted:
        raise CommandError(f"{folder} holds {len(found)} slides, and {wanted} are needed: name another --folder, "
                           "or let this make its own, without --folder")
    return found[:wanted]


def shown(folder: Path) -> str:
    """The folder as messages name it: without the place of the project."""
    return str(folder.relative_to(flags.HOME)) if folder.is_relative_to(flags.HOME) else folder.name


def _generate(folder: Path, number: int, quick: bool) -> list[Path]:
    """Generate the slides that are missing in `folder`; returns all."""
    logger.info("%d slides in %s: the missing ones are made now", number, shown(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not quick:
            return generate.generate(folder, number)
        made = [folder / f"small-{index:02}.svs" for index in range(1, number + 1)]
        for index, slide in enumerate(made, 1):
            if not slide.exists():
                generate.write_slide(slide, **QUICK_SIZE, seed=index, blurred=index % 2 == 0)
        return made
    except OSError as error:
        raise CommandError(f"cannot make slides in {folder} ({error.strerror}): make room, "
                           "or name a --folder that holds some") from error
