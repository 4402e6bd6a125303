"""Where the seconds of a slide go: the plain pipeline's own loop body, with a clock around the functions it calls.

compare.py runs this as a process of its own, `python -m slideqc.comparing.step_times ORDER`, where ORDER is JSON: the
pipeline's module, the slides, the output folder, the parameters, how often, and the file to write. A function's time
is without that of clocked functions that it calls; what no clock covers is `rest`.
"""

import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from slideqc.output import drawing, results

PARTS = ("read", "tissue", "blur", "draw", "write", "rest")


class Clocks:
    """A clock for each part; one runs at a time, that of the innermost function."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.running, self.since = ["rest"], time.perf_counter()

    def switch(self) -> None:
        """Give the time since the last switch to the part that runs."""
        now = time.perf_counter()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def clocked(self, part: str, function: Callable) -> Callable:
        """The same function, on the clock of `part`."""
        @functools.wraps(function)
        def on_the_clock(*args: object, **kwargs: object) -> object:
            self.switch()
            self.running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self.running.pop()
        return on_the_clock

    def attach(self, pipeline: object) -> None:
        """Put the functions that `check_slide` comes to call on their clocks."""
        places = {"read": [(pipeline.BaseImage, "__init__"), (pipeline.BaseImage, "picture")],
                  "tissue": [(pipeline, "tissue_mask")], "blur": [(pipeline, "blurry_mask")],
                  "draw": [(drawing, "overlay"), (drawing, "thumbnail")],
                  "write": [(pipeline.BaseImage, "save"), (pipeline.BaseImage, "load_mask"), (results, "save_row")]}
        for part, functions in places.items():
            for owner, name in functions:
                setattr(owner, name, self.clocked(part, getattr(owner, name)))


def run(order: dict) -> list[dict]:
    """Check every slide so many times; returns the seconds of each part, for each slide and pass."""
    pipeline, clocks = import_module(order["module"]), Clocks()
    Path(order["output"]).mkdir(parents=True, exist_ok=True)
    clocks.attach(pipeline)
    samples = []
    for number in range(-1, order["passes"]):  # the first, untimed, brings libraries and files into memory
        for slide in order["slides"] if number >= 0 else order["slides"][:1]:
            clocks.switch()
            clocks.seconds.clear()
            pipeline.check_slide(slide, output=order["output"], **order["parameters"])
            clocks.switch()
            if number >= 0:
                samples.append({"pass": number, "slide": Path(slide).name,
                                **{part: clocks.seconds[part] for part in PARTS}})
    return samples


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    Path(told["to"]).write_text(json.dumps(run(told)), encoding="utf-8")
