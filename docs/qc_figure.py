"""Measure the figures of docs/qc.md: known blur, and known artifacts, are added to a real slide.

    python docs/qc_figure.py                                print the tables of docs/qc.md
    python docs/qc_figure.py --draw docs/qc_blur.png        draw its figure
    python docs/qc_figure.py --blur 8 --to FOLDER SLIDE     write a copy of a small slide with a blurred lower half

The blur is a Gaussian filter of the full-size picture; its σ is in µm. The two functions of slideqc/pixels.py measure
the result.
"""

import argparse
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
from slideqc.pixels import LUMA, blurry_mask, tissue_mask  # noqa: E402
from slideqc.slides import aperio  # noqa: E402

SLIDE = "CMU-1-Small-Region.svs"
MPP = 0.499                                                    # µm/px of this slide
GLASS = 243                                                    # gray value of the glass on this slide
TABLED = 0, 1, 2, 4, 8, 16                                     # σ of the blur in the tables, µm
DRAWN = 0, 0.5, 0.71, 1, 1.41, 2, 2.83, 4, 5.66, 8, 11.3, 16   # σ of the blur in the figure, µm
SIZES = {f"{size:g}x": {"size": size} for size in (1.25, 2.5, 5, 10, 20)}
RADII = {f"{radius:g} px": {"radius": radius} for radius in (7, 1.75, 3.5, 14, 28)}             # the default is first
THRESHOLDS = {f"{threshold:g}": {"threshold": threshold} for threshold in (0.05, 0.02, 0.03, 0.07, 0.1)}
SPOTS = (1250, 420), (1000, 500), (1150, 300), (600, 480), (1300, 650)   # y, x in µm, all within tissue
LARGEST = 10_000 * 10_000                                      # px; --blur has the whole slide in memory


@cache
def real_slide() -> np.ndarray:
    """The full-size picture of the real slide, RGB uint8 (2967, 2220, 3). Ends the script if the slide is missing."""
    path = Path(os.environ.get("WSI_TEST_SLIDES") or HOME / "data") / SLIDE
    if not path.exists():
        sys.exit(f"{SLIDE} is not in {path.parent}: fetch it with  python get_data.py")
    return BaseImage(path).picture("20x")


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a picture, uint8 (height, width, 3); `sigma` is in pixels."""
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma else picture


def half_blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Blur the lower half of a picture, uint8 (height, width, 3); `sigma` is in pixels."""
    middle = len(picture) // 2
    return np.vstack([picture[:middle], blurred(picture, sigma)[middle:]])


@cache
def half_blurred_slide(sigma: float, size: float) -> np.ndarray:
    """The real slide at the magnification `size`, with its lower half blurred by `sigma` µm: RGB uint8."""
    if size == 20:
        return half_blurred(real_slide(), sigma / MPP)
    return aperio.smaller(half_blurred_slide(sigma, 20), round(20 / size))


def masks(rgb: np.ndarray, radius: float = 7, threshold: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """The pipeline's masks of tissue and of blurry tissue: uint8 (height, width), 0 or 255."""
    tissue = tissue_mask(rgb)
    return tissue, blurry_mask(rgb, tissue, radius, threshold)


def measure(sigma: float, size: float = 1.25, radius: float = 7, threshold: float = 0.05) -> dict[str, float]:
    """Measure fractions, 0–1, on the slide with a blurred lower half.

    `percent`: the blurry part of the tissue; `lower`: the same in the lower half only; `truth`: the part of the tissue
    that is in the lower half.
    """
    tissue, blurry = masks(half_blurred_slide(sigma, size), radius, threshold)
    lower = slice(len(tissue) // 2, None)
    return {"percent": part(blurry, tissue), "lower": part(blurry[lower], tissue[lower]),
            "truth": cv2.countNonZero(tissue[lower]) / cv2.countNonZero(tissue)}


def part(mask: np.ndarray, where: np.ndarray) -> float:
    """The fraction of the region `where` that `mask` covers, 0–1; both are uint8 (height, width), 0 or 255."""
    return cv2.countNonZero(cv2.bitwise_and(mask, where)) / max(1, cv2.countNonZero(where))


def found_from(**options: float) -> float:
    """σ in µm of the blur of which half is found, interpolated between the values of `DRAWN` on a logarithmic scale."""
    found = [measure(sigma, **options)["lower"] for sigma in DRAWN[1:]]
    return float(2 ** np.interp(0.5, found, np.log2(DRAWN[1:])))


def spots_found(diameter: float, radius: float = 7) -> float:
    """Blur round spots of `diameter` µm with σ = 16 µm; returns the fraction of them that is found at 1.25x, 0–1."""
    slide, found = real_slide(), []
    soft = blurred(slide, 16 / MPP)
    for y, x in SPOTS:
        spot = np.zeros_like(slide[..., 0])
        cv2.circle(spot, (round(x / MPP), round(y / MPP)), round(diameter / 2 / MPP), 255, -1)
        rgb = aperio.smaller(np.where(spot[..., None] > 0, soft, slide), 16)
        where = np.uint8(aperio.smaller(spot, 16) > 127) * np.uint8(255)
        found.append(part(masks(rgb, radius)[1], where))
    return float(np.mean(found))


def false_alarms(size: float) -> dict[str, float]:
    """Measure false alarms on the sharp slide at the magnification `size`: fractions, 0–1.

    `inner`: the blurry part of the tissue that Otsu's threshold finds, before dilation; `in the rim`: the part of the
    blurry area that only the dilation added; `tissue` and `dark`: the part of the slide after and before dilation.
    """
    rgb = half_blurred_slide(0, size)
    tissue, blurry = masks(rgb)
    _, dark = cv2.threshold(255 - cv2.transform(rgb, LUMA), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return {"inner": part(blurry, dark), "in the rim": part(255 - dark, blurry),
            "tissue": part(tissue, np.full_like(tissue, 255)), "dark": part(dark, np.full_like(dark, 255))}


# Artifacts that the slide does not have: drawn at full size, next to its tissue or over it -----------------------

Drawn = tuple[np.ndarray, np.ndarray]  # a picture, uint8 (height, width, 3), and the mask of its artifact, bool


def next_to(slide: np.ndarray, drawn: np.ndarray | tuple[int, int, int], where: np.ndarray) -> Drawn:
    """Append glass at the right of the slide; inside the mask `where`, it shows the picture or colour `drawn`."""
    added = np.where(where[..., None], np.uint8(drawn), np.uint8(GLASS))
    return np.hstack([slide, added]), np.hstack([np.zeros_like(where), where])


def over(slide: np.ndarray, drawn: np.ndarray, where: np.ndarray) -> Drawn:
    """Replace the slide by the picture `drawn` inside the mask `where`."""
    return np.where(where[..., None], np.uint8(drawn), slide), where


def pen(slide: np.ndarray, y: np.ndarray, x: np.ndarray, through: float) -> Drawn:
    """A pen stroke over the tissue, 300 µm wide; it transmits the fraction `through` of the light."""
    return over(slide, slide * np.float32(through), np.abs(x - 600) < 150)


def fold(slide: np.ndarray, y: np.ndarray, x: np.ndarray, sigma: float = 0) -> Drawn:
    """A fold, 150 µm wide: two layers of tissue absorb light; blurred by `sigma` µm."""
    twice = slide * (np.roll(slide, (300, 120), (0, 1)) / np.float32(GLASS))
    return over(slide, blurred(np.uint8(twice), sigma / MPP), np.abs(y - 800) < 75)


def pale(slide: np.ndarray, y: np.ndarray, x: np.ndarray, density: float) -> Drawn:
    """Pale tissue: the optical density of the lower half is multiplied by `density`."""
    light = slide / np.float32(GLASS)
    return over(slide, (GLASS * light ** np.float32(density)).clip(0, 255), y > y.max() / 2)


def fat(slide: np.ndarray, y: np.ndarray, x: np.ndarray, sigma: float = 0) -> Drawn:
    """Fat next to the tissue: empty cells of 70 µm with walls of 3 µm; blurred by `sigma` µm."""
    walls = fat_walls(*slide.shape[:2])
    cells = np.uint8(np.where(walls[..., None], (190, 120, 165), GLASS))
    return next_to(slide, blurred(cells, sigma / MPP), np.ones_like(walls))


@cache
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
    "pen, 0.6 mm wide, beside the tissue": lambda slide, _y, x: next_to(slide, (25, 60, 130), np.abs(x - 554) < 300),
    "pen over the tissue, 30 % of the light gets through": partial(pen, through=0.30),
    "pen over the tissue, 5 % of the light gets through": partial(pen, through=0.05),
    "fold, 0.15 mm wide, in focus": fold,
    "fold, 0.15 mm wide, 8 µm out of focus": partial(fold, sigma=8),
    "rim of a bubble, 40 µm wide, on glass": lambda slide, y, x: next_to(
        slide, (60, 60, 60), np.abs(np.hypot(y - 740, x - 554) - 450) < 20),
    "fat, cells of 70 µm with walls of 3 µm, beside the tissue": fat,
    "the same fat, 8 µm out of focus": partial(fat, sigma=8),
    "the same fat, 16 µm out of focus": partial(fat, sigma=16),
    "lower half stained a third as strongly": partial(pale, density=1 / 3),
    "lower half stained a fifth as strongly": partial(pale, density=1 / 5),
}


def trouble(name: str) -> dict[str, float]:
    """Measure an artifact with the default settings: fractions, 0–1.

    `percent`: the blurry part of all tissue; `tissue`: the part of the artifact that is found as tissue; `blurry`: the
    blurry part of that.
    """
    slide = real_slide()
    y, x = np.mgrid[:len(slide), :slide.shape[1]].astype(np.float32) * np.float32(MPP)
    picture, where = TROUBLES[name](slide, y, x)
    rgb, where = aperio.smaller(picture, 16), aperio.smaller(np.uint8(where) * np.uint8(255), 16)
    where = np.uint8(where > 127) * np.uint8(255)
    if picture.shape == slide.shape:   # the artifact is over the tissue: its part on glass does not count
        where &= tissue_mask(half_blurred_slide(0, 1.25))
    tissue, blurry = masks(rgb)
    return {"percent": part(blurry, tissue), "tissue": part(tissue, where), "blurry": part(blurry, where & tissue)}


# Tables and figure -----------------------------------------------------------------------------------------------

def tables() -> str:
    """The tables of docs/qc.md, in Markdown."""
    def percents(**options: float) -> list[str]:
        return [f"{100 * measure(sigma, **options)['percent']:.1f}" for sigma in TABLED]

    head = [f"σ = {sigma} µm" if sigma else "as it is" for sigma in TABLED]
    sizes = [[name, f"{10 / options['size']:.3g}", *percents(**options), f"{100 * measure(0, **options)['truth']:.0f}",
              f"σ = {found_from(**options):.1f} µm"] for name, options in SIZES.items()]
    choices = [[f"{kind} {name}", *percents(**options)]
               for kind, known in (("radius", RADII), ("threshold", THRESHOLDS))
               for name, options in sorted(known.items(), key=lambda each: [*each[1].values()])]
    troubles = [[name, f"{100 * found['tissue']:.0f}", f"{100 * found['blurry']:.0f}", f"{100 * found['percent']:.1f}"]
                for name, found in zip(TROUBLES, map(trouble, TROUBLES), strict=True)]
    spots = [[f"radius {radius:g} px", *(f"{100 * spots_found(wide, radius):.0f}" for wide in (100, 200, 300, 400))]
             for radius in (3.5, 7, 14)]
    return "\n\n".join([
        table(["working size", "µm/px", *head, "blurred, in truth", "half of it found from"], sizes),
        table(["at 1.25x", *head], choices),
        table(["drawn in", "found as tissue", "of that, called blurry", "`percent_blurry`"], troubles),
        table(["at 1.25x, spots of", "100 µm", "200 µm", "300 µm", "400 µm"], spots),
        "\n".join(f"{name}: {false_alarms(**options)}" for name, options in SIZES.items())])


def draw(target: Path) -> None:
    """Draw the figure of docs/qc.md: what is found, and how it depends on size, radius and threshold."""
    import matplotlib.pyplot as plt
    shades = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000"   # Okabe and Ito's palette for colour-blind readers
    figure = plt.figure(figsize=(15, 11.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    for axis, (sigma, size) in zip(above.subplots(1, 4), [(0, 1.25), (2, 1.25), (2, 5), (8, 1.25)], strict=True):
        rgb = half_blurred_slide(sigma, size)
        axis.imshow(drawing.overlay(rgb, *masks(rgb)))
        axis.axhline(len(rgb) / 2, color="black", linewidth=1, linestyle=":")
        what = f"lower half blurred, σ = {sigma} µm" if sigma else "as it is"
        axis.set_title(f"{what}\nat {size:g}x: {100 * measure(sigma, size)['percent']:.0f} % blurry", fontsize=17)
        axis.set(xticks=[], yticks=[])
    positions = [np.log2(sigma / 0.25) if sigma else 0 for sigma in DRAWN]
    panels = {"working size, at 7 px and 0.05": SIZES, "radius, at 1.25x and 0.05": RADII,
              "threshold, at 1.25x and 7 px": THRESHOLDS}
    for axis, (title, choices) in zip(below.subplots(1, 3, sharey=True), panels.items(), strict=True):
        truths = [100 * measure(0, **options)["truth"] for options in choices.values()]
        axis.axhspan(min(truths) - 0.5, max(truths) + 0.5, color="0.85", label="truly blurred")
        axis.axhline(5, color="0.35", linestyle="--", linewidth=1.5)
        for (name, options), shade, mark in zip(choices.items(), shades, "osD^v", strict=True):
            share = [100 * measure(sigma, **options)["percent"] for sigma in DRAWN]
            usual = name in ("1.25x", "7 px", "0.05")
            axis.plot(positions, share, color=shade, marker=mark, markersize=7, linewidth=4 if usual else 2,
                      label=f"{name} (default)" if usual else name, zorder=3 if usual else 2)
        axis.set_title(title, fontsize=17)
        axis.set_xlabel("σ of the blur in the lower half, µm", fontsize=15)
        axis.set_xticks(range(7), ["none", "0.5", "1", "2", "4", "8", "16"])
        axis.tick_params(labelsize=14)
        axis.set(ylim=(0, 100), yticks=range(0, 80, 10))
        axis.legend(fontsize=13, loc="upper left", ncols=2)
        if choices is SIZES:
            axis.set_ylabel("tissue called blurry, %", fontsize=15)
            axis.text(positions[-1], 6.5, "limit: 5 %", fontsize=13, horizontalalignment="right")
    figure.savefig(target, dpi=80, metadata={"Software": None})
    plt.close(figure)


def write_blurred(slide: Path, sigma: float, folder: Path) -> Path:
    """Copy a small slide to `folder` as an Aperio slide with one level, its lower half blurred by `sigma` µm.

    Returns the path of the copy. Raises SlideError if the slide has no pixel size, or more than LARGEST pixels.
    """
    image = BaseImage(slide)
    width, height = image.facts.level_dimensions[0]
    if not image.mpp or width * height > LARGEST:
        raise SlideError(f"{image.name} has no pixel size" if not image.mpp else
                         f"{image.name} is too large ({width}×{height} px): choose a slide of at most 100 megapixels")
    picture = half_blurred(image.picture("1/1"), sigma / image.mpp)
    description = aperio.description(width, height, {"AppMag": f"{image.base_mag:g}", "MPP": f"{image.mpp:.4f}"})
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{slide.stem}-blurred-{sigma:g}.svs"
    with target.open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, picture, description), aperio.add_thumbnail(file, picture, description)]
        aperio.write_directories(file, pages)
    return target


def main() -> None:
    """Run the command."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("slide", type=Path, nargs="?", help="the slide to blur")
    flags.add_argument("--draw", type=Path, metavar="FILE", help="file of the figure")
    flags.add_argument("--blur", type=float, metavar="MICRONS", help="σ of the blur")
    flags.add_argument("--to", type=Path, metavar="FOLDER", help="folder of the blurred copy")
    options = flags.parse_args()
    if options.draw:
        draw(options.draw)
    elif options.blur and options.slide and options.to:
        try:
            print(write_blurred(options.slide, options.blur, options.to))
        except SlideError as error:
            sys.exit(str(error))
    elif options.blur or options.slide or options.to:
        flags.error("--blur, --to and a slide must be given together")
    else:
        print(tables())


if __name__ == "__main__":
    main()
