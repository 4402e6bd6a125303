"""A whole-slide image: its metadata, and its pixels at a working magnification.

    >>> image = BaseImage("data/CMU-1-Small-Region.svs")
    >>> image.base_mag, image.mpp
    (20.0, 0.499)
    >>> image.picture("1.25x").shape      # 20x / 1.25x = 16: one pixel for 16 × 16 pixels of the slide
    (185, 138, 3)

A BaseImage contains no pixels and no open file. So its pickle has only a few hundred bytes, and can be sent to other
threads, processes and machines. Each of them opens the slide file again when it needs pixels. The steps of the pipeline
exchange files in the `output` folder, named after the slide.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from slideqc.errors import SlideError
from slideqc.files import write_output
from slideqc.output import drawing
from slideqc.slides import magnification, reading, tissue_tiles
from slideqc.slides.tissue_tiles import Tile


class BaseImage:
    """The path, the metadata and the output folder of a slide.

    Raises SlideError if the file is missing, empty, truncated or not a slide.
    """

    def __init__(self, file_name: str | Path, output: str | Path = "output") -> None:
        self.path = Path(file_name)
        self.output = Path(output)
        self.facts = reading.read_facts(self.path)
        self.mpp = self.facts.mpp  # µm per pixel of level 0, None if the file does not state it
        self.base_mag = magnification.base_magnification(self.facts.objective_power, self.mpp)
        self.warnings = magnification.oddities(self.facts.objective_power, self.mpp)
        if self.facts.orientation != 1:
            self.warnings.append(f"orientation tag {self.facts.orientation}: the picture, or each of its tiles, may be "
                                 "turned, and no figure of it is to be trusted")

    @property
    def name(self) -> str:
        """The name of the slide file, with its ending."""
        return self.path.name

    def plan(self, work_size: str, flag: str = "--image-work-size") -> magnification.Plan:
        """How to read the slide at a working size such as "1.25x" or "1/16": level, reduction, width and height in px.

        Raises SlideError, which names the flag that the size came from, if the slide has no such size.
        """
        try:
            downsample = magnification.downsample_for(work_size, self.facts.objective_power, self.mpp, flag)
            return magnification.plan(downsample, self.facts.level_dimensions, self.facts.level_downsamples, flag)
        except ValueError as error:
            raise SlideError(f"{self.name} {error}") from None

    def picture(self, image_work_size: str) -> np.ndarray:
        """Read the whole slide at a working size: RGB uint8 (height, width, 3), read-only.

        Parts that were not scanned have the background colour. Raises SlideError if the pixels cannot be read.
        """
        return reading.read_picture(self.path, self.facts, self.plan(image_work_size)).rgb

    def scanned(self, image_work_size: str) -> np.ndarray:
        """What the scanner saw of that picture, uint8 (height, width): 255 there, 0 elsewhere."""
        picture = reading.read_picture(self.path, self.facts, self.plan(image_work_size))
        return np.full(picture.rgb.shape[:2], 255, np.uint8) if picture.scanned is None else picture.scanned

    def tiles(self, blur_work_size: str, tissue: np.ndarray, margin: int) -> Iterator[Tile]:
        """Read the slide at a working size, tile by tile where there is tissue; `tissue` is the mask of the overview.

        `margin` is how many pixels around each pixel the filter looks at. A few tiles are in memory at a time.
        Raises SlideError if the slide has no such size, or a tile cannot be read.
        """
        plan = self.plan(blur_work_size, "--blur-work-size")
        windows = reading.read_windows(self.path, self.facts, plan, margin + 1, wanted=tissue)
        return tissue_tiles.tiles(windows, plan.width, plan.height, tissue, margin)

    def save(self, kind: str, picture: np.ndarray, small: Iterable[np.ndarray] = ()) -> None:
        """Write a picture, uint8, RGB (height, width, 3) or gray (height, width), to `<output>/<slide>_<kind>`.

        The ending of `kind`, .png or .jpg, gives the format. A JPEG also stores thumbnails of the pictures in `small`,
        for the report. Raises OutputError if the file cannot be written, SlideError if its name is too long.
        """
        write_output(self.output / f"{self.name}_{kind}", drawing.encode(kind, picture, small))

    def load_mask(self, kind: str) -> np.ndarray:
        """Read the mask that an earlier step saved: uint8 (height, width), 0 or 255. Raises SlideError without one."""
        path = self.output / f"{self.name}_{kind}"
        if not path.exists():
            raise SlideError(f"{self.name} has no {path.name} yet: the step that writes it has to come first "
                             "(in a flow: upstream_tasks)")
        return drawing.decode_mask(path.read_bytes())

    def describe(self, image_work_size: str, warnings: Iterable[str] = ()) -> dict:
        """Part of the slide's row: magnification, width and height of the overview in pixels, and all warnings."""
        _, _, width, height = self.plan(image_work_size)
        return {"base_mag": self.base_mag, "width": width, "height": height, "warnings": [*self.warnings, *warnings]}
