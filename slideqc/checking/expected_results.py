"""What pipeline.py makes of the slides of a check, and how the files of another run differ from it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slideqc.errors import CommandError
from slideqc.flags import HOME
from slideqc.output import drawing, results

MASKS = ("tissue_seg.png", "blurry.png")


@dataclass(frozen=True)
class ExpectedResults:
    """The results of pipeline.py: its output folder, and its rows by the file name of the slide."""

    folder: Path
    rows: dict[str, dict]

    def difference(self, folder: Path, slide: str, with_row: bool) -> str | None:
        """How the files of a slide in `folder`, and its row if it is to have one, differ; None if they are right."""
        for kind in MASKS:
            expected, found = (where / f"{slide}_{kind}" for where in (self.folder, folder))
            if not found.exists():
                return f"{found.name} is not in the output folder"
            masks = drawing.decode_mask(expected.read_bytes()), drawing.decode_mask(found.read_bytes())
            if masks[0].shape != masks[1].shape or (masks[0] != masks[1]).any():
                return f"{found.name} is another picture"
        if not with_row:
            return None
        rows = {row["file_name"]: row for row in results.read_rows(folder)}
        if slide not in rows:
            return f"{slide} has no row ({slide}_qc.json is not in the output folder)"
        row, expected_row = rows[slide], self.rows[slide]
        if row != expected_row:
            column = next(name for name in expected_row if row[name] != expected_row[name])
            return f"the row of {slide} says {column}={row[column]!r} instead of {expected_row[column]!r}"
        return None


def run_pipeline(slides: Path, output: Path, parameter_flags: list[str]) -> ExpectedResults:
    """Run pipeline.py on a folder of slides; CommandError if it does not check each of them."""
    done = subprocess.run([sys.executable, HOME / "pipeline.py", "--folder", slides, "--output", output,
                           *parameter_flags], capture_output=True, check=False)
    rows = {row["file_name"]: row for row in results.read_rows(output)}
    if done.returncode or set(rows) != {slide.name for slide in slides.glob("*.svs")}:
        raise CommandError("pipeline.py does not run as the plain pipeline any more, and your flow is compared with "
                           "it: put it back as it was, and write your flow in a file of its own")
    return ExpectedResults(output, rows)
