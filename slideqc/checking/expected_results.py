"""The slides of a check, what pipeline.py makes of them, and how the files of another run differ from that.

`python -m slideqc.checking.expected_results FOLDER PIPELINE` makes the slides in FOLDER/data and runs the script
PIPELINE on them, while another process imports the attendee's script.
"""

import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slideqc.checking import check_folder
from slideqc.child_process import ChildProcess
from slideqc.errors import CommandError
from slideqc.flags import HOME
from slideqc.output import drawing, results

MASKS = ("tissue_seg.png", "blurry.png")
SLIDES = {"sharp.svs": False, "partly-blurry.svs": True}  # is a part of it out of focus?
# None of them is the default, so that a parameter that is not handed on shows in the results.
PARAMETERS = {"image_work_size": "2.5x", "blur_work_size": "4x", "blur_radius": 5, "blur_threshold": 0.06,
              "blur_max": 0.2}
SLIDES_DONE = "slides-done"  # a file that says that the slides are there


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


@contextmanager
def preparing(folder: Path) -> Iterator[Callable[[], ExpectedResults]]:
    """Prepare the slides and the results in the folder of a check, in a process that runs meanwhile.

    The function that it gives waits for the results; it raises CommandError if pipeline.py does not check each slide.
    """
    command = [sys.executable, "-m", __name__, folder, HOME / "pipeline.py"]
    env = os.environ | check_folder.environment(folder, HOME)
    with ChildProcess(command, cwd=folder, env=env, log=folder / "prepare") as process:

        def wait_for_results() -> ExpectedResults:
            status, output = process.status(timeout=None), folder / "expected"
            rows = {row["file_name"]: row for row in results.read_rows(output)}
            if status or set(rows) != set(SLIDES):
                raise CommandError("pipeline.py does not run as the plain pipeline any more, and your flow is compared "
                                   "with it: put it back as it was, and write your flow in a file of its own")
            return ExpectedResults(output, rows)

        yield wait_for_results


def wait_for_slides(folder: Path) -> list[Path]:
    """The paths of the slides, as soon as they are there."""
    while not (folder / SLIDES_DONE).exists():
        time.sleep(0.02)
    return [folder / "data" / name for name in SLIDES]


def _prepare(folder: Path, pipeline: str) -> None:
    """Make the slides, and run the pipeline on them; this process ends with its exit status."""
    from slideqc.slides.generate import write_slide
    try:
        for number, (name, blurred) in enumerate(SLIDES.items(), 1):
            write_slide(folder / "data" / name, width=2048, height=1536, magnification=20, seed=number,
                        blurred=blurred)
    finally:  # after an error too, or the other process would wait for ever
        (folder / SLIDES_DONE).touch()
    sys.argv = [pipeline, "--folder", str(folder / "data"), "--output", str(folder / "expected"),
                *check_folder.as_flags(PARAMETERS)]
    runpy.run_path(pipeline, run_name="__main__")


if __name__ == "__main__":
    _prepare(Path(sys.argv[1]), sys.argv[2])
