"""The results of a run: a row a slide, and the table and report assembled from the rows.

Each slide's row is a file of its own, `<slide>_qc.json`, written last of the slide's files by whoever checked it. Runs
that never meet, such as one flow run a slide, so still make one table.
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
NOTES = {"rescan": "too blurry: needs a rescan", "no_tissue": "no tissue found: blank glass, or very pale tissue"}
ROW_FILE = "_qc.json"
LONGEST_NAME = 255  # bytes, on nearly all file systems
TABLES = ("results.csv", "report.html", "run.json")
PICTURES = ("_tissue_seg.png", "_blurry.png", "_overlay.jpg")
OVERLAY = "_overlay.jpg"  # which carries the report's small pictures


def begin(output: Path, names: Iterable[str]) -> None:
    """Make `output` ready for a new table: what an earlier run left of the table and of these slides goes.

    Raises CommandError if the folder cannot be made or written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_parts(output)
        ours = {*TABLES, *(f"{name}{kind}" for name in names for kind in PICTURES)}
        for old in list(output.iterdir()):
            if old.name in ours or old.name.endswith(ROW_FILE):
                old.unlink(missing_ok=True)
        write_whole(output / "run.json", b"{}\n")
        (output / "run.json").unlink()
    except OSError as error:
        raise CommandError(f"cannot write to the output folder {output} ({error.strerror}): "
                           "give another one with --output") from error


def save_row(output: str | Path, file_name: str, status: str, *, base_mag: float | None = None,
             width: int | None = None, height: int | None = None, tissue_fraction: float | None = None,
             percent_blurry: float | None = None, warnings: Iterable[str] = (), error: str = "") -> dict:
    """Write a slide's row and return it. `percent_blurry` is a fraction of the tissue area, 0–1.

    Raises OutputError if the row cannot be written.
    """
    row = {"file_name": file_name, "status": status, "base_mag": base_mag, "width": width, "height": height,
           "tissue_fraction": _six(tissue_fraction), "percent_blurry": _six(percent_blurry),
           "warnings": [*warnings, *filter(None, [NOTES.get(status)])], "error": error}
    write_output(_row_file(output, file_name), json.dumps(row, indent=1))
    return row


def save_failure(output: str | Path, slide: str | Path, error: Exception) -> dict:
    """Write the row of a slide that could not be checked, with the reason in one line; returns the row.

    Where `error` says that the folder is full, which the other slides would meet too, it is raised again.
    """
    slide = Path(slide)
    known = isinstance(error, (SlideError, OutputError))
    reason = str(error) if known else f"{slide.name}: {type(error).__name__}: {error}"
    # The same slide gets the same words, wherever it lies.
    reason = " ".join(reason.replace(f"{slide.parent}{os.sep}", "").replace(f"{output}{os.sep}", "").split())
    row = save_row(output, slide.name, "failed", error=reason)
    if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in FULL:
        raise error
    return row


def save_killed(output: str | Path, slide: str | Path, death: Exception) -> dict:
    """Write the row of a slide whose process was killed; returns the row."""
    return save_failure(output, slide, SlideError(f"{Path(slide).name} was given up: {death}, perhaps for want of "
                                                  "memory: try fewer --workers"))


def has_row(output: Path, slide: str | Path) -> bool:
    """Has somebody checked this slide, with whatever result?"""
    return _row_file(output, Path(slide).name).exists()


def _row_file(output: str | Path, file_name: str) -> Path:
    name = os.fsencode(file_name)
    if len(name) + len(ROW_FILE) > LONGEST_NAME:
        file_name = hashlib.sha256(name).hexdigest()
    return Path(output) / f"{file_name}{ROW_FILE}"


def _six(fraction: float | None) -> float | None:
    return None if fraction is None else round(float(fraction), 6)


def read_rows(output: Path) -> list[dict]:
    """The rows of every slide checked so far, sorted by name."""
    rows = (json.loads(path.read_bytes()) for path in output.glob(f"*{ROW_FILE}"))
    return sorted(rows, key=lambda row: row["file_name"])


def assemble(output: Path) -> list[dict]:
    """Write `results.csv` and `report.html` from the rows that are there; returns the rows.

    Runs that end together need no lock: whoever wrote the table looks once more whether rows have come since, and
    if so writes it again. A row is there before its run assembles, so the last table holds them all.
    """
    rows = None
    while rows != (rows := read_rows(output)):
        write_output(output / "results.csv", _csv(rows))
        write_output(output / "report.html",
                     report.render(rows, lambda row: _pictures(output, row)))
    return rows


def _pictures(output: Path, row: dict) -> dict[str, str]:
    """The row's small pictures, from the overlay, which carries them; none for a slide that failed."""
    with contextlib.suppress(FileNotFoundError):  # another run may just begin anew
        if row["status"] != "failed":
            with (output / f"{row['file_name']}{OVERLAY}").open("rb") as file:
                small = drawing.thumbnails(file.read(drawing.THUMBNAILS_BYTES))
            return dict(zip(("slide", "overlay"), small, strict=False))
    return {}


def _csv(rows: list[dict]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cell(column, row[column]) for column in COLUMNS)
    return table.getvalue()


def _cell(column: str, value: object) -> object:
    if value is None:
        return ""
    if column in ("tissue_fraction", "percent_blurry"):
        return f"{value:.6f}"
    if column == "base_mag":
        return f"{value:.6g}"
    return " | ".join(value) if column == "warnings" else value
