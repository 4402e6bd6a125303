"""Begin and end a run over a folder of slides, in the same way in every script."""

import argparse
import json
import logging
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from slideqc import console, flags
from slideqc.errors import SlideError
from slideqc.files import write_output
from slideqc.output import results

LIBRARIES = ("prefect", "dask", "numpy", "opencv-python-headless", "openslide-bin", "simplejpeg", "tifffile")

logger = logging.getLogger("slideqc")


@dataclass
class Run:
    """A run over the slides of a folder."""

    options: argparse.Namespace
    slides: list[str]  # absolute paths, sorted by name
    started: float     # value of time.perf_counter() at the start, in seconds

    @classmethod
    def begin(cls, options: argparse.Namespace) -> "Run":
        """Find the slides of `options.folder`, and delete the results of an earlier run in `options.output`.

        Raises CommandError if there is no slide, or if the output folder cannot be written to.
        """
        run = cls(options, flags.slides(options.folder, options.filetype), time.perf_counter())
        results.begin(options.output, (Path(slide).name for slide in run.slides))
        logger.info("checking %d slides of %s", len(run.slides), options.folder)
        return run

    def finish(self) -> int:
        """Write the table and the report, and print the table.

        A slide without a row gets one that says `failed`. Returns the exit status: 1 if a slide failed, otherwise 0.
        """
        output = self.options.output
        for slide in self.slides:
            if not results.has_row(output, slide):
                problem = SlideError(f"{Path(slide).name} was not checked: its run broke off")
                results.save_failure(output, slide, problem)
        rows = results.assemble(output)
        write_output(output / "run.json", json.dumps(self._facts(len(rows)), indent=1) + "\n")
        counts = {status: sum(row["status"] == status for row in rows) for status in results.STATUSES}
        print(f"\n{console.table(rows)}\n\nreport: {output / 'report.html'}\n"
              f"{len(rows) - counts['failed']} checked, {counts['rescan']} need a rescan, "
              f"{counts['no_tissue']} without tissue, {counts['failed']} failed")
        return 1 if counts["failed"] else 0

    def _facts(self, checked: int) -> dict:
        return {
            "script": Path(sys.argv[0]).name,
            "parameters": {name: str(value) if isinstance(value, Path) else value
                           for name, value in vars(self.options).items()},
            "slides": checked,
            "seconds": round(time.perf_counter() - self.started, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            "machine": {"system": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count(),
                        "cpus_usable": flags.cpus()},
        }
