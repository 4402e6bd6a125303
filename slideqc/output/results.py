"""The results of a run: one row for each slide, and the table and the report made from all rows.

The process that checks a slide writes its row to a separate file, `<slide>_qc.json`, after the slide's other files.
So independent runs, such as one flow run for each slide, can still make one table.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

from slideqc.errors import CommandError, OutputError, SlideError
from slideqc.files import FULL, remove_parts, write_output, write_whole
from slideqc.output import drawing, report

COLUMNS = ("file_name", "status", "base_mag", "width", "height",
           "tissue_fraction", "percent_blurry", "warnings", "error")
STATUSES = ("ok", "rescan", "no_tissue", "failed")
NOTES = {"rescan": "too blurry: needs a rescan"}
ROW_FILE = "_qc.json"
LONGEST_NAME = 255  # bytes, on nearly all file systems
TABLES = ("results.csv", "report.html", "run.json")
PICTURES = ("_tissue_seg.png", "_blurry.png", "_overlay.jpg")
OVERLAY = "_overlay.jpg"  # it also stores the report's thumbnails


def begin(output: Path, names: Iterable[str]) -> None:
    """Prepare the folder `output` for a run over the slides `names`: delete the results of an earlier run.

    Deletes the table, the report, all rows, and the pictures of these slides. Raises CommandError if the folder cannot
    be created or written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_parts(output)
        old_names = {*TABLES, *(f"{name}{kind}" for name in names for kind in PICTURES)}
        for path in list(output.iterdir()):
            if path.name in old_names or path.name.endswith(ROW_FILE):
                path.unlink(missing_ok=True)
        write_whole(output / "run.json", b"{}\n")  # fails now, and not at the end, if the folder is not writable
        (output / "run.json").unlink()
    except OSError as error:
        raise CommandError(f"cannot write to the output folder {output} ({error.strerror}): "
                           "choose another one with --output") from error


def save_row(output: str | Path, file_name: str, status: str, *, base_mag: float | None = None,
             width: int | None = None, height: int | None = None, tissue_fraction: float | None = None,
             percent_blurry: float | None = None, warnings: Iterable[str] = (), error: str = "") -> dict:
    """Write the row of a slide and return it.

    `status` is one of STATUSES. `width` and `height` are in pixels of the working size. `tissue_fraction` is a fraction
    of the slide's area, `percent_blurry` a fraction of the tissue area, both 0–1. Raises OutputError if the row cannot
    be written, SlideError if the slide's name is too long.
    """
    row = {"file_name": file_name, "status": status, "base_mag": base_mag, "width": width, "height": height,
           "tissue_fraction": _rounded(tissue_fraction), "percent_blurry": _rounded(percent_blurry),
           "warnings": [*warnings, *filter(None, [NOTES.get(status)])], "error": error}
    write_output(_row_file(output, file_name), json.dumps(row, indent=1))
    return row


def save_failure(output: str | Path, slide: str | Path, error: Exception) -> dict:
    """Write the row of a slide that could not be checked, with the reason in one line; returns the row.

    Raises `error` again if it says that the folder is full or read-only: the other slides would fail too.
    """
    slide = Path(slide)
    known = isinstance(error, (SlideError, OutputError))
    reason = str(error) if known else f"{slide.name}: {type(error).__name__}: {error}"
    # Without folders: the same slide gets the same reason in every folder.
    reason = " ".join(reason.replace(f"{slide.parent}{os.sep}", "").replace(f"{output}{os.sep}", "").split())
    row = save_row(output, slide.name, "failed", error=reason)
    if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in FULL:
        raise error
    return row


def save_killed(output: str | Path, slide: str | Path, death: Exception) -> dict:
    """Write the row of a slide whose worker process was killed; `death` says how. Returns the row."""
    return save_failure(output, slide, SlideError(f"{Path(slide).name} could not be checked: {death}, perhaps because "
                                                  "memory ran out: try fewer --workers"))


def has_row(output: Path, slide: str | Path) -> bool:
    """Does the slide have a row, with any status?"""
    return _row_file(output, Path(slide).name).exists()


def failures(output: str | Path, slides: Iterable[str]) -> list[str]:
    """Why slides could not be checked, of those among `slides` whose row says `failed`; in their order."""
    files = [_row_file(output, Path(slide).name) for slide in slides]
    rows = [json.loads(file.read_bytes()) for file in files if file.exists()]
    return [row["error"] for row in rows if row["status"] == "failed"]


def _row_file(output: str | Path, file_name: str) -> Path:
    name = os.fsencode(file_name)
    if len(name) + len(ROW_FILE) > LONGEST_NAME:
        file_name = hashlib.sha256(name).hexdigest()
    return Path(output) / f"{file_name}{ROW_FILE}"


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(float(fraction), 6)


def read_rows(output: Path) -> list[dict]:
    """The rows of every slide checked so far, sorted by name."""
    rows = (json.loads(path.read_bytes()) for path in output.glob(f"*{ROW_FILE}"))
    return sorted(rows, key=lambda row: row["file_name"])


def assemble(output: Path) -> list[dict]:
    """Write `results.csv` and `report.html` from the rows in `output`; returns the rows, sorted by file name.

    Runs that end at the same time need no lock. Each run writes its rows first, then the table. After that it reads the
    rows again, and if there are new ones, it writes the table again. So the last table contains every row. Raises
    OutputError if a file cannot be written.
    """
    rows = None
    while rows != (rows := read_rows(output)):
        write_output(output / "results.csv", _csv(rows))
        write_output(output / "report.html",
                     report.render(rows, lambda row: _pictures(output, row)))
    return rows


def _pictures(output: Path, row: dict) -> dict[str, str]:
    """The thumbnails of a slide, as data URLs, read from its overlay; empty for a slide that failed."""
    with contextlib.suppress(FileNotFoundError):  # a new run may have deleted the overlay
        if row["status"] != "failed":
            with (output / f"{row['file_name']}{OVERLAY}").open("rb") as file:
                thumbnails = drawing.thumbnails(file.read(drawing.THUMBNAILS_BYTES))
            return dict(zip(("slide", "overlay"), thumbnails, strict=False))
    return {}


def _csv(rows: list[dict]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cell(column, row[column]) for column in COLUMNS)
    return table.getvalue()


def markdown(row: dict) -> str:
    """The row of one slide as a Markdown table, of the columns that say something."""
    cells = {column: str(_cell(column, row[column])).replace("|", "\\|") for column in COLUMNS}
    return "\n".join(["| | |", "|---|---|", *(f"| {column} | {text} |" for column, text in cells.items() if text)])


def _cell(column: str, value: object) -> object:
    if value is None:
        return ""
    if column in ("tissue_fraction", "percent_blurry"):
        return f"{value:.6f}"
    if column == "base_mag":
        return f"{value:.6g}"
    return " | ".join(value) if column == "warnings" else value
