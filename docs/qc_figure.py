"""Measure the figures of docs/qc.md: a real slide is put out of focus, or gets a known artifact.

    python docs/qc_figure.py                                print the tables of docs/qc.md
    python docs/qc_figure.py --draw docs/qc_blur.png        draw its figure
    python docs/qc_figure.py --blur 8 --to FOLDER SLIDE     copy a small slide, with its lower half 8 µm out of focus

A lens that is out of focus spreads each point over a disc. The full-size picture is filtered with that disc, and the
pipeline's own functions judge the result: tissue on the overview, focus at the blur work size.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from BaseImage import BaseImage  # noqa: E402
from slideqc.comparing.tables import table  # noqa: E402
from slideqc.errors import SlideError  # noqa: E402
from slideqc.output import drawing  # noqa: E402
from slideqc.pixels import blurry_mask, dark_surround, tissue_mask  # noqa: E402
from slideqc.slides import aperio  # noqa: E402
from slideqc.slides.tissue_tiles import nearest  # noqa: E402

SLIDE = "CMU-1-Small-Region.svs"
MAGNIFICATION, MPP = 20, 0.499   # of this slide; µm/px
GLASS = 243                      # gray value of the glass on this slide
OVERVIEW = 1.25                  # the default of --image-work-size
DISC = math.tan(math.asin(0.75 / 1.5))   # µm of radius for each µm of defocus: a lens of NA 0.75, refractive index 1.5
TABLED = 0, 2, 4, 8, 12                  # defocus in the tables, µm
DRAWN = 0, 1, 2, 3, 4, 5, 6, 8, 10, 12   # defocus in the figure, µm
# The default is first.
SIZES = {f"{size:g}x": {"size": size} for size in (5, 1.25, 2.5, 10)}
RADII = {f"{radius:g} px": {"radius": radius} for radius in (7, 3.5, 14)}
THRESHOLDS = {f"{threshold:g}": {"threshold": threshold} for threshold in (0.05, 0.03, 0.07)}
SPOTS = (1250, 420), (1000, 500), (1150, 300), (600, 480), (1300, 650)   # y, x in µm, all within tissue
LARGEST = 10_000 * 10_000      # px; --blur has the whole slide in memory


@cache
def real_slide() -> np.ndarray:
    """The full-size picture of the real slide, RGB uint8 (2967, 2220, 3). Ends the script if the slide is missing."""
    path = Path(os.environ.get("WSI_TEST_SLIDES") or HOME / "data") / SLIDE
    if not path.exists():
        sys.exit(f"{SLIDE} is not in {path.parent}: fetch it with  python get_data.py")
    return BaseImage(path).picture("1/1")


def defocused(picture: np.ndarray, radius: float) -> np.ndarray:
    """The picture, uint8 (height, width, 3), with each point spread over a disc of `radius` pixels."""
    if not radius:
        return picture
    side = 2 * math.ceil(radius) + 1
    place = (np.arange(8 * side) + 0.5) / 8 - side / 2   # 8 × 8 samples of each pixel: the rim covers pixels in part
    disc = cv2.resize(np.float32(np.hypot(place[:, None], place) <= radius), (side, side), interpolation=cv2.INTER_AREA)
    return cv2.filter2D(picture, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


def half_defocused(picture: np.ndarray, radius: float) -> np.ndarray:
    """The same in the lower half only."""
    middle = len(picture) // 2
    return np.vstack([picture[:middle], defocused(picture, radius)[middle:]])


@cache
def slide_at(size: float, microns: float, half: bool = False) -> np.ndarray:
    """The real slide at the magnification `size`, all of it or its lower half out of focus by `microns`: RGB uint8."""
    if size == MAGNIFICATION:
        return (half_defocused if half else defocused)(real_slide(), DISC * microns / MPP)
    return aperio.smaller(slide_at(MAGNIFICATION, microns, half), round(MAGNIFICATION / size))


def masks(overview: np.ndarray, rgb: np.ndarray, radius: float = 7,
          threshold: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """The masks of tissue and of blurry tissue: uint8 (height, width), 0 or 255, of the size of `rgb`.

    `overview` and `rgb` show one slide at the two working sizes: RGB uint8.
    """
    tissue = tissue_mask(overview, 255 - dark_surround(overview))
    rows, columns = (nearest(of, to) for of, to in zip(tissue.shape, rgb.shape, strict=False))
    tissue = np.ascontiguousarray(tissue[rows][:, columns])
    return tissue, blurry_mask(rgb, tissue, radius, threshold)


def measure(microns: float, size: float = 5, radius: float = 7, threshold: float = 0.05, half: bool = False) -> float:
    """`percent_blurry` of the real slide, a fraction 0–1, when it is out of focus by `microns`."""
    tissue, blurry = masks(slide_at(OVERVIEW, microns, half), slide_at(size, microns, half), radius, threshold)
    return part(blurry, tissue)


def part(mask: np.ndarray, where: np.ndarray) -> float:
    """The fraction of the region `where` that `mask` covers, 0–1; both are uint8 (height, width), 0 or 255."""
    return cv2.countNonZero(cv2.bitwise_and(mask, where)) / max(1, cv2.countNonZero(where))


def spots_found(**options: float) -> float:
    """Put round spots of 100 µm out of focus by 12 µm; returns the fraction of them that is found, 0–1."""
    slide, found = real_slide(), []
    soft = slide_at(MAGNIFICATION, 12)
    for y, x in SPOTS:
        spot = np.zeros_like(slide[..., 0])
        cv2.circle(spot, (round(x / MPP), round(y / MPP)), round(50 / MPP), 255, -1)
        picture = np.where(spot[..., None] > 0, soft, slide)
        where = np.uint8(aperio.smaller(spot, 4) > 127) * np.uint8(255)
        found.append(part(masks(aperio.smaller(picture, 16), aperio.smaller(picture, 4), **options)[1], where))
    return float(np.mean(found))


# Artifacts that the slide does not have: drawn at full size, next to its tissue or over it -----------------------

Drawn = tuple[np.ndarray, np.ndarray]  # a picture, uint8 (height, width, 3), and the mask of its artifact, bool


def next_to(slide: np.ndarray, drawn: np.ndarray | tuple[int, int, int], where: np.ndarray) -> Drawn:
    """Append glass at the right of the slide; inside the mask `where`, it shows the picture or colour `drawn`."""
    added = np.where(where[..., None], np.uint8(drawn), np.uint8(GLASS))
    return np.hstack([slide, added]), np.hstack([np.zeros_like(where), where])


def over(slide: np.ndarray, drawn: np.ndarray, where: np.ndarray) -> Drawn:
    """Replace the slide by the picture `drawn` inside the mask `where`."""
    return np.where(where[..., None], np.uint8(drawn), slide), where


def pen(slide: np.ndarray, y: np.ndarray, x: np.ndarray) -> Drawn:
    """A pen stroke over the tissue, 300 µm wide; it transmits 30 % of the light."""
    return over(slide, slide * np.float32(0.3), (np.abs(x - 600) < 150) & (np.abs(y - 740) < 600))


def fold(slide: np.ndarray, y: np.ndarray, x: np.ndarray, microns: float = 0) -> Drawn:
    """A fold, 150 µm wide: two layers of tissue absorb light; out of focus by `microns`."""
    twice = slide * (np.roll(slide, (300, 120), (0, 1)) / np.float32(GLASS))
    return over(slide, defocused(np.uint8(twice), DISC * microns / MPP), np.abs(y - 800) < 75)


def pale(slide: np.ndarray, y: np.ndarray, x: np.ndarray, density: float) -> Drawn:
    """Pale tissue: the optical density of the lower half is multiplied by `density`."""
    light = slide / np.float32(GLASS)
    return over(slide, (GLASS * light ** np.float32(density)).clip(0, 255), y > y.max() / 2)


def fat(slide: np.ndarray, _y: np.ndarray, _x: np.ndarray) -> Drawn:
    """Fat next to the tissue: empty cells of 70 µm with walls of 3 µm."""
    walls = fat_walls(*slide.shape[:2])
    return next_to(slide, np.where(walls[..., None], (190, 120, 165), GLASS), np.ones_like(walls))


def fat_walls(height: int, width: int) -> np.ndarray:
    """The mask of the walls, bool (height, width): pixels about equally far from the two nearest centres of cells."""
    centres = np.mgrid[-70:height * MPP + 70:70, -70:width * MPP + 70:70].reshape(2, -1).T
    centres = centres + np.random.default_rng(6).uniform(0, 70, centres.shape)
    coarse = np.stack(np.mgrid[:height:2, :width:2], -1) * MPP   # one pixel in four is enough: the walls are 6 px wide
    nearest, _ = cKDTree(centres).query(coarse, k=2)
    return cv2.resize(np.uint8(nearest[..., 1] - nearest[..., 0] < 2 * 3), (width, height)) > 0


TROUBLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Drawn]] = {  # called with slide, y, x (µm)
    "smooth mucin, 0.7 mm × 1 mm, beside the tissue": lambda slide, y, x: next_to(
        slide, (168, 170, 196), np.hypot((y - 740) / 500, (x - 554) / 350) < 1),
    "pen, 0.6 mm wide, beside the tissue": lambda slide, y, x: next_to(
        slide, (25, 60, 130), (np.abs(x - 554) < 300) & (np.abs(y - 740) < 600)),
    "pen, 0.3 mm wide, over the tissue; 30 % of the light gets through": pen,
    "fold, 0.15 mm wide, in focus": fold,
    "fold, 0.15 mm wide, 8 µm out of focus": partial(fold, microns=8),
    "fat, cells of 70 µm with walls of 3 µm, beside the tissue": fat,
    "lower half stained half as strongly": partial(pale, density=1 / 2),
    "lower half stained a third as strongly": partial(pale, density=1 / 3),
}


def trouble(name: str) -> dict[str, float]:
    """Measure an artifact with the default settings: fractions, 0–1.

    `percent`: the blurry part of all tissue; `tissue`: the part of the artifact that is found as tissue; `blurry`: the
    blurry part of that.
    """
    slide = real_slide()
    y, x = np.mgrid[:len(slide), :slide.shape[1]].astype(np.float32) * np.float32(MPP)
    picture, where = TROUBLES[name](slide, y, x)
    where = np.uint8(aperio.smaller(np.uint8(where) * np.uint8(255), 4) > 127) * np.uint8(255)
    tissue, blurry = masks(aperio.smaller(picture, 16), aperio.smaller(picture, 4))
    if picture.shape == slide.shape:   # the artifact is over the tissue: its part on glass does not count
        where &= masks(slide_at(OVERVIEW, 0), slide_at(5, 0))[0]
    return {"percent": part(blurry, tissue), "tissue": part(tissue, where), "blurry": part(blurry, where & tissue)}


# Tables and figure -----------------------------------------------------------------------------------------------

def tables() -> str:
    """The tables of docs/qc.md, in Markdown."""
    def row(name: str, options: dict[str, float]) -> list[str]:
        return [name, *(f"{100 * measure(microns, **options):.1f}" for microns in TABLED)]

    head = [f"{microns} µm" if microns else "sharp" for microns in TABLED]
    sizes = [row(f"CMU-1 at {name}", SIZES[name]) for name in sorted(SIZES, key=lambda name: SIZES[name]["size"])]
    choices = [[*row(f"{kind} {name}", known[name]), f"{100 * spots_found(**known[name]):.0f}"]
               for kind, known in (("radius", RADII), ("threshold", THRESHOLDS)) for name in known]
    troubles = [[name, f"{100 * found['tissue']:.0f}", f"{100 * found['blurry']:.0f}", f"{100 * found['percent']:.1f}"]
                for name, found in zip(TROUBLES, map(trouble, TROUBLES), strict=True)]
    return "\n\n".join([
        table(["defocus", *head], sizes),
        table(["drawn in", "found as tissue", "of that, called blurry", "`percent_blurry` × 100"], troubles),
        table(["at 5x", *head, "spots"], choices)])


def draw(target: Path) -> None:
    """Draw the figure of docs/qc.md: what is found, and how it depends on size, radius and threshold."""
    import matplotlib.pyplot as plt
    shades = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000"   # Okabe and Ito's palette for colour-blind readers
    figure = plt.figure(figsize=(15, 11.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    for axis, (microns, size) in zip(above.subplots(1, 4), [(0, 5), (4, 5), (8, 5), (8, 1.25)], strict=True):
        tissue, blurry = masks(slide_at(OVERVIEW, microns, True), slide_at(size, microns, True))
        axis.imshow(drawing.overlay(slide_at(size, microns, True), tissue, blurry))
        axis.contour(tissue, [127], colors=[np.array(drawing.OUTLINE) / 255], linewidths=1.5)
        axis.axhline(len(tissue) / 2, color="black", linewidth=1, linestyle=":")
        what = f"lower half {microns} µm out of focus" if microns else "as it is"
        axis.set_title(f"{what}\nat {size:g}x: {100 * part(blurry, tissue):.0f} % blurry", fontsize=17)
        axis.set(xticks=[], yticks=[])
    panels = {"blur work size, at 7 px and 0.05": SIZES, "radius, at 5x and 0.05": RADII,
              "threshold, at 5x and 7 px": THRESHOLDS}
    for axis, (title, choices) in zip(below.subplots(1, 3, sharey=True), panels.items(), strict=True):
        axis.axhline(10, color="0.35", linestyle="--", linewidth=1.5)
        for index, ((name, options), shade, mark) in enumerate(zip(choices.items(), shades, "osD^v", strict=False)):
            share = [100 * measure(microns, **options) for microns in DRAWN]
            axis.plot(DRAWN, share, color=shade, marker=mark, markersize=7, linewidth=2 if index else 4,
                      label=name if index else f"{name} (default)", zorder=2 if index else 3)
        axis.set_title(title, fontsize=17)
        axis.set_xlabel("defocus of the whole slide, µm", fontsize=15)
        axis.tick_params(labelsize=14)
        axis.set(ylim=(0, 135), yticks=range(0, 101, 20))
        axis.legend(fontsize=13, loc="upper left", ncols=2)
        if choices is SIZES:
            axis.set_ylabel("tissue called blurry, %", fontsize=15)
        if choices is RADII:
            axis.text(0, 13, "limit: 10 %", fontsize=13)
    figure.savefig(target, dpi=80, metadata={"Software": None})
    plt.close(figure)


def write_defocused(slide: Path, microns: float, folder: Path) -> Path:
    """Copy a small slide to `folder` as an Aperio slide with one level, its lower half out of focus by `microns`.

    Returns the path of the copy. Raises SlideError if the slide has no pixel size, or more than LARGEST pixels.
    """
    image = BaseImage(slide)
    width, height = image.facts.level_dimensions[0]
    if not image.mpp or width * height > LARGEST:
        raise SlideError(f"{image.name} has no pixel size" if not image.mpp else
                         f"{image.name} is too large ({width}×{height} px): choose a slide of at most 100 megapixels")
    picture = half_defocused(image.picture("1/1"), DISC * microns / image.mpp)
    description = aperio.description(width, height, {"AppMag": f"{image.base_mag:g}", "MPP": f"{image.mpp:.4f}"})
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{slide.stem}-defocused-{microns:g}.svs"
    with target.open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, picture, description), aperio.add_thumbnail(file, picture, description)]
        aperio.write_directories(file, pages)
    return target


def main() -> None:
    """Run the command."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("slide", type=Path, nargs="?", help="the slide to copy")
    flags.add_argument("--draw", type=Path, metavar="FILE", help="file of the figure")
    flags.add_argument("--blur", type=float, metavar="MICRONS", help="how far its lower half is out of focus, in µm")
    flags.add_argument("--to", type=Path, metavar="FOLDER", help="folder of the copy")
    options = flags.parse_args()
    if options.draw:
        draw(options.draw)
    elif options.blur and options.slide and options.to:
        try:
            print(write_defocused(options.slide, options.blur, options.to))
        except SlideError as error:
            sys.exit(str(error))
    elif options.blur or options.slide or options.to:
        flags.error("--blur, --to and a slide must be given together")
    else:
        print(tables())


if __name__ == "__main__":
    main()
