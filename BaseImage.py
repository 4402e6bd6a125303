"""One slide, opened: its metadata, and its pixels at a working magnification.

    >>> image = BaseImage("data/CMU-1-Small-Region.svs")
    >>> image.base_mag, image.mpp
    (20.0, 0.499)
    >>> image.picture("1.25x").shape      # 20x / 1.25x: one pixel for 16 × 16
    (185, 138, 3)

The handle is light: it holds no pixels and no open file, so it travels between threads, processes and machines as
a few hundred bytes, and each of them opens the slide anew when it needs pixels. What one step of the pipeline
leaves for the next lies in the `output` folder, beside each other under the slide's name.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from slideqc.errors import SlideError
from slideqc.files import write_output
from slideqc.output import drawing
from slideqc.slides import magnification, reading


class BaseImage:
    """A whole-slide image: where it is, what it says of itself, where its results go.

    Raises SlideError, in words, if the file is missing, empty, truncated or no slide.
    """

    def __init__(self, file_name: str | Path, output: str | Path = "output") -> None:
        self.path = Path(file_name)
        self.output = Path(output)
        self.facts = reading.read_facts(self.path)
        self.mpp = self.facts.mpp  # µm/px of the full-size picture, None if the slide does not say
        self.base_mag = magnification.base_magnification(self.facts.objective_power, self.mpp)
        self.warnings = []
        if self.base_mag and not self.facts.objective_power:
            self.warnings.append(f"no magnification stated: {self.base_mag:.4g}x taken from {self.mpp:.4g} µm/px")

    @property
    def name(self) -> str:
        """The file's name with its ending."""
        return self.path.name

    def plan(self, image_work_size: str) -> magnification.Plan:
        """Level, reduction, width and height of the working picture; SlideError if the slide has no such size."""
        try:
            downsample = magnification.downsample_for(image_work_size, self.base_mag)
            return magnification.plan(downsample, self.facts.level_dimensions, self.facts.level_downsamples)
        except ValueError as error:
            raise SlideError(f"{self.name} {error}") from None

    def picture(self, image_work_size: str) -> np.ndarray:
        """The whole slide as RGB, uint8 (height, width, 3), read-only; unscanned parts in the background colour."""
        return reading.read_picture(self.path, self.facts, self.plan(image_work_size))

    def save(self, kind: str, picture: np.ndarray, small: Iterable[np.ndarray] = ()) -> None:
        """Write a picture to `<output>/<slide>_<kind>`; the ending of `kind` is the format.

        A JPEG carries thumbnails of the pictures in `small`, for the report.
        """
        write_output(self.output / f"{self.name}_{kind}", drawing.encode(kind, picture, small))

    def load_mask(self, kind: str) -> np.ndarray:
        """The mask that an earlier step saved, uint8 (height, width), 0 or 255."""
        path = self.output / f"{self.name}_{kind}"
        if not path.exists():
            raise SlideError(f"{self.name} has no {path.name} yet: the step that writes it has to come first "
                             "(in a flow: upstream_tasks)")
        return drawing.decode_mask(path.read_bytes())

    def describe(self, image_work_size: str) -> dict:
        """What the results say of the slide, whatever was found: sizes in pixels, and what is odd about it."""
        _, _, width, height = self.plan(image_work_size)
        return {"base_mag": self.base_mag, "width": width, "height": height, "warnings": self.warnings}
