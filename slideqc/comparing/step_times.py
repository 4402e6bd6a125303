"""Times the parts of the plain pipeline: its function check_slide, with a timer around the functions that it calls.

compare.py runs this as a process of its own, `python -m slideqc.comparing.step_times ORDER`, where ORDER is JSON: the
slides, the output folder, the parameters, how often, and the file to write. A function's time does not include that of
timed functions which it calls; time in no timed function is `rest`.
"""

import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from slideqc.output import drawing, results

PARTS = ("read", "tissue", "blur", "draw", "write", "rest")


class PartTimer:
    """Sums the seconds of each part. At any time one part is timed: that of the innermost function."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.parts, self.since = ["rest"], time.perf_counter()  # the parts that are running, innermost last

    def add_elapsed(self) -> None:
        """Add the time since the last call to the innermost part."""
        now = time.perf_counter()
        self.seconds[self.parts[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable) -> Callable:
        """The same function, timed as `part`."""
        @functools.wraps(function)
        def timed_function(*args: object, **kwargs: object) -> object:
            self.add_elapsed()
            self.parts.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.add_elapsed()
                self.parts.pop()
        return timed_function

    def timed_tiles(self, function: Callable[..., Iterator]) -> Callable[..., Iterator]:
        """The same function, whose tiles are timed as `read`: each is read when the loop asks for it."""
        @functools.wraps(function)
        def timed_function(*args: object, **kwargs: object) -> Iterator:
            tiles = function(*args, **kwargs)
            read_next = self.timed("read", lambda: next(tiles, None))
            while (tile := read_next()) is not None:
                yield tile
        return timed_function

    def attach(self, pipeline: object) -> None:
        """Time the functions that `check_slide` calls."""
        functions = {"read": [(pipeline.BaseImage, "__init__"), (pipeline.BaseImage, "picture")],
                  "tissue": [(pipeline, "tissue_mask"), (pipeline, "tissue_warnings")],
                  "blur": [(pipeline, "blurry_mask")],
                  "draw": [(drawing, "overlay"), (drawing, "thumbnail")],
                  "write": [(pipeline.BaseImage, "save"), (pipeline.BaseImage, "load_mask"), (results, "save_row")]}
        for part, places in functions.items():
            for owner, name in places:
                setattr(owner, name, self.timed(part, getattr(owner, name)))
        pipeline.BaseImage.tiles = self.timed_tiles(pipeline.BaseImage.tiles)


def run(order: dict) -> list[dict]:
    """Check every slide so many times; returns the seconds of each part, for each slide and pass."""
    pipeline, timer = import_module("pipeline"), PartTimer()
    Path(order["output"]).mkdir(parents=True, exist_ok=True)
    timer.attach(pipeline)
    samples = []
    for number in range(-1, order["passes"]):  # the first is not timed: it brings libraries and files into memory
        for slide in order["slides"] if number >= 0 else order["slides"][:1]:
            timer.add_elapsed()
            timer.seconds.clear()
            pipeline.check_slide(slide, output=order["output"], **order["parameters"])
            timer.add_elapsed()
            if number >= 0:
                samples.append({"pass": number, "slide": Path(slide).name,
                                **{part: timer.seconds[part] for part in PARTS}})
    return samples


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    Path(order["to"]).write_text(json.dumps(run(order)), encoding="utf-8")
