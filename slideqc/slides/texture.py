"""Draw stained tissue from noise, and choose where on the glass it is.

Lengths in the drawings are pixels of 0.5 µm (20x). A drawing is square and periodic. Its colour is computed from two
stains as in a real section: the optical density is proportional to the amount of stain (the Beer–Lambert law).
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

GLASS = 242.0                                          # gray value of clean glass; JPEG preserves it exactly
HAEMATOXYLIN = np.array([0.92, 1.05, 0.52], np.float32)  # optical density per unit of stain, in R, G and B
EOSIN = np.array([0.12, 0.78, 0.43], np.float32)
DEFOCUS = 24                                           # σ of the blur in px: it removes details of 8 µm
EVEN = 200                                             # σ in px: variation on a longer scale is removed
FASCICLE = 520                                         # working pixels over which fibres change direction
COARSE = 8                                             # reduction at which long waves are computed
REACH = 8                                              # limit of signed distances, in working pixels
WORK = 16                                              # px of a drawing for one working pixel (1.25x)


def noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: tuple[float, float],
          periodic: bool = False) -> np.ndarray:
    """Smooth noise, float32 `shape`, mean about 0 and standard deviation about 1; wavelengths (y, x) in px."""
    if min(wavelength) >= 8 * COARSE and min(shape) >= 8 * COARSE:
        # Long waves are computed at a reduced size and enlarged: this looks the same and is many times faster.
        reduced = tuple(-(-side // COARSE) for side in shape)
        coarse = noise(rng, reduced, [wave / COARSE for wave in wavelength], periodic)
        coarse = np.pad(coarse, 1, mode="wrap" if periodic else "edge")
        fine = cv2.resize(coarse, None, fx=COARSE, fy=COARSE, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(fine[COARSE:COARSE + shape[0], COARSE:COARSE + shape[1]])
    cells = [max(2, round(side / wave)) for side, wave in zip(shape, wavelength, strict=True)]
    values = np.pad(rng.standard_normal(cells, np.float32), 3, mode="wrap" if periodic else "reflect")
    # Pixel x of the picture is at (x + 0.5) * cells / side in the grid. So there is no seam where the noise repeats.
    y, x = (count / side for count, side in zip(cells, shape, strict=True))
    grid = np.array([[x, 0, x / 2 + 2.5], [0, y, y / 2 + 2.5]])
    return 1.5 * cv2.warpAffine(values, grid, shape[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def fractal(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, octaves: int,
            gain: float = 0.5, periodic: bool = False) -> np.ndarray:
    """Fractal noise, float32 `shape`: each octave has half the wavelength (px) and `gain` times the amplitude."""
    return sum(gain ** i * noise(rng, shape, (wavelength / 2 ** i,) * 2, periodic) for i in range(octaves))


def nuclei(rng: np.random.Generator, period: int, xy: np.ndarray, angles: np.ndarray, length: float,
           width: float) -> np.ndarray:
    """Draw ellipses centred at `xy` (n, 2) px, turned by `angles` (n,) radians, about `length` × `width` px.

    Returns float32 (period, period), 0 outside of nuclei, at most 1 inside; periodic.
    """
    margin = 32
    canvas = np.zeros((period + 2 * margin,) * 2, np.uint8)
    sizes = np.clip(rng.normal(1, 0.18, (len(xy), 2)), 0.6, 1.6) * (length / 2, width / 2)
    shades = rng.integers(140, 256, len(xy))
    for (x, y), (long, short), angle, shade in zip((xy + margin) * 16, sizes * 16, np.degrees(angles), shades,
                                                   strict=True):
        cv2.ellipse(canvas, (int(x), int(y)), (int(long), int(short)), angle, 0, 360, int(shade), -1, cv2.LINE_AA, 4)
    # What crosses one side continues at the opposite side.
    for _ in range(2):
        np.maximum(canvas[-2 * margin:-margin], canvas[:margin], out=canvas[-2 * margin:-margin])
        np.maximum(canvas[margin:2 * margin], canvas[-margin:], out=canvas[margin:2 * margin])
        canvas = canvas.T
    return np.float32(canvas[margin:-margin, margin:-margin]) / 255


def scattered(rng: np.random.Generator, period: int, spacing: float) -> np.ndarray:
    """Random points, float64 (n, 2) px, about `spacing` px apart, within a square of `period` px."""
    count = round(period / spacing)
    grid = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2)
    return (grid + rng.uniform(0, 1, grid.shape)) * (period / count) % period


def stroma(rng: np.random.Generator, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw connective tissue: wavy pink fibres with gaps between them, and slender nuclei along them.

    Returns haematoxylin and eosin, float32 (period, period). The fibres are drawn horizontally, then bent.
    """
    def flat(y: float, x: float) -> np.ndarray:
        return noise(rng, (period, period), (y, x), periodic=True)

    fibres = flat(3, 30) + 0.45 * flat(8, 70) + 0.5 * flat(22, 190) + 0.35 * flat(90, 300)
    gaps = np.clip(1.8 * (flat(13, 110) + 0.8 * flat(38, 150) + 0.5 * flat(5, 40) - 1.0), 0, 1)
    xy = scattered(rng, period, 16)
    crowd = flat(60, 130)[tuple(xy.astype(int).T[::-1])]
    xy = xy[rng.uniform(0, 1, len(xy)) < 0.07 + 0.45 * (crowd > 1.1)]
    cells = nuclei(rng, period, xy, rng.normal(0, 0.2, len(xy)), 22, 5.5)
    eosin = (0.58 + 0.25 * fibres).clip(0.16) * (1 - 0.92 * gaps)
    haematoxylin = 0.05 * (1 - gaps) + 0.85 * cells * (0.9 + 0.15 * fibres)
    bend_x, bend_y = (amount * flat(600, 600) + amount / 8 * flat(170, 170) for amount in (24, 80))
    bend_x += np.arange(period, dtype=np.float32)
    bend_y += np.arange(period, dtype=np.float32)[:, None]
    return tuple(cv2.remap(stain, bend_x, bend_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
                 for stain in (haematoxylin, eosin))


def glands(rng: np.random.Generator, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw crowded glands: each is a lumen with a row of cells around it; a little stroma is between them.

    Returns haematoxylin and eosin, float32 (period, period).
    """
    def waves(length: float) -> np.ndarray:
        return noise(rng, (period, period), (length, length), periodic=True)

    height = waves(85) + 0.5 * waves(48) + 0.16 * waves(17)   # glands are where it is high, lumens at its peaks
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(height, (0, 0), 6))
    xy = scattered(rng, period, 9.5)
    at = tuple(xy.astype(int).T[::-1])
    level, luck = height[at], rng.uniform(0, 1, len(xy))
    wall = (level > -0.15) & (level < 0.7) & (luck < 0.8)
    loose = (level < -0.15) & (luck < 0.22)
    across = np.arctan2(slope_y[at], slope_x[at]) + rng.normal(0, 0.2, len(xy))
    cells = np.maximum(nuclei(rng, period, xy[wall], across[wall], 17, 9),
                       nuclei(rng, period, xy[loose], across[loose] + np.pi / 2, 14, 8))
    grain = 0.7 * waves(4) + 0.5 * waves(9)
    lumen = np.clip(3.0 * (height + 0.1 * grain - 1.45), 0, 1)
    body = np.clip(4 * (height + 0.2), 0, 1)                  # 1 in glands, 0 between them
    clefts = np.clip(3 * (-height - 1.55 + 0.1 * grain), 0, 1)
    solid = (1 - 0.95 * lumen) * (1 - 0.85 * clefts)
    eosin = (0.62 - 0.22 * body + 0.11 * grain) * solid
    haematoxylin = (0.06 + 0.20 * body + 0.05 * grain * body) * solid + cells * (0.80 + 0.12 * grain)
    return haematoxylin, eosin


def stained(haematoxylin: np.ndarray, eosin: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """The colour of two stains, float32 (height, width) each, in transmitted light: RGB uint8 (height, width, 3).

    `tint` (2,) scales the optical densities of haematoxylin and eosin, since laboratories stain differently.
    """
    amounts = cv2.merge([_without_slow_variation(haematoxylin), _without_slow_variation(eosin)])
    density = cv2.transform(amounts, -np.stack([tint[0] * HAEMATOXYLIN, tint[1] * EOSIN], 1))
    return cv2.convertScaleAbs(cv2.exp(density), alpha=GLASS)


def _without_slow_variation(stain: np.ndarray) -> np.ndarray:
    """Remove slow variation from a stain: at low magnification, it would show that the drawing repeats."""
    stain = stain.clip(0)
    return stain * (stain.mean() / _smoothed(stain, min(EVEN, len(stain) // 16)))


def _smoothed(periodic: np.ndarray, sigma: float) -> np.ndarray:
    """Filter a periodic picture with a wide Gaussian, computed at a reduced size."""
    height, width = periodic.shape[:2]
    coarse = cv2.resize(periodic, (width // COARSE, height // COARSE), interpolation=cv2.INTER_AREA)
    pad = int(4 * sigma / COARSE)
    coarse = cv2.copyMakeBorder(coarse, pad, pad, pad, pad, cv2.BORDER_WRAP)
    coarse = cv2.GaussianBlur(coarse, (0, 0), sigma / COARSE)[pad - 1:1 - pad, pad - 1:1 - pad]
    return cv2.resize(coarse, None, fx=COARSE, fy=COARSE)[COARSE:-COARSE, COARSE:-COARSE]


def out_of_focus(picture: np.ndarray) -> np.ndarray:
    """Blur a periodic picture, uint8 (height, width, 3), as if out of focus."""
    return _smoothed(picture, DEFOCUS)


def glass(rng: np.random.Generator, period: int) -> np.ndarray:
    """Clean glass with the faint noise of a camera, uint8 (period, period, 3)."""
    gray = GLASS + rng.normal(0, 1.2, (period, period))
    return cv2.merge([np.uint8(np.round(gray))] * 3)


class Scene(NamedTuple):
    """Maps of the slide at 1.25x: signed distances to the edge of each region, in working pixels, positive inside.

    Each is float32 (height, width).
    """

    tissue: np.ndarray
    glands: np.ndarray    # glands; the other tissue is stroma
    turned: np.ndarray    # where the drawing is turned by 90°: vertical fibres, elsewhere horizontal ones
    mirrored: np.ndarray  # where the drawing is mirrored, so that its repetition is less visible
    defocus: np.ndarray   # where the picture is out of focus


def scene(rng: np.random.Generator, height: int, width: int, blurred: bool) -> Scene:
    """Choose the regions of a slide of `height` × `width` working pixels; one is out of focus if `blurred`."""
    shape, size = (height, width), min(height, width)
    tissue = fragments(rng, height, width)
    # Tears: thin lines where one noise is near zero, but only where a second noise is high.
    tears = np.abs(fractal(rng, shape, 0.35 * size, 6, 0.6)) < 0.035
    tissue &= ~(tears & (fractal(rng, shape, 0.2 * size, 2) > 0.9))
    zones = fractal(rng, shape, 0.4 * size, 5, 0.55)
    defocus = np.zeros_like(tissue)
    if blurred and tissue.any():
        ys, xs = np.nonzero(tissue ^ (cv2.erode(np.uint8(tissue), np.ones((3, 3))) > 0))  # the outline
        centre = rng.integers(len(ys))
        distance = _enlarged(lambda y, x: np.hypot(y - ys[centre], x - xs[centre]), shape)
        distance += 0.06 * size * fractal(rng, shape, 0.4 * size, 4)
        defocus = distance < np.quantile(distance[tissue], rng.uniform(0.18, 0.32))
    return Scene(signed_distance(tissue), signed_distance(zones > np.quantile(zones, 0.6)),
                 *(signed_distance(fractal(rng, shape, FASCICLE, 2) > 0) for _ in range(2)), signed_distance(defocus))


def fragments(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Choose where the pieces of tissue are, side by side, with irregular outlines; bool (height, width)."""
    small = width < 500  # there is room for one piece only
    count = 1 if small else int(rng.integers(2, 5))
    rim, rough, spread = (0.08, 0.09, 1.12) if small else (0.2, 0.15, 0.87)
    size = min(height, width / count)
    pieces = [(((i + rng.uniform(0.45, 0.55)) * width / count, height * rng.uniform(0.44, 0.56)),
               (rng.uniform(0.36, 0.45) * spread * width / count, rng.uniform(0.32, 0.44) * spread * height),
               rng.uniform(-0.5, 0.5)) for i in range(count)]

    def inside(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        field = np.full(y.shape, -np.inf, np.float32)
        for centre, radii, turn in pieces:
            dx, dy = x - centre[0], y - centre[1]
            field = np.maximum(field, 1 - np.hypot((dx * np.cos(turn) + dy * np.sin(turn)) / radii[0],
                                                   (dy * np.cos(turn) - dx * np.sin(turn)) / radii[1]))
        border = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y)) / size
        return field - 4 * np.clip(rim - border, 0, None)   # keeps tissue away from the border of the slide

    return _enlarged(inside, (height, width)) + rough * fractal(rng, (height, width), 0.6 * size, 8, 0.56) > 0


def _enlarged(function: Callable[[np.ndarray, np.ndarray], np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Compute a smooth function of (y, x) at a reduced size and enlarge the result to `shape`; float32."""
    rows, columns = (np.arange(-(-side // COARSE), dtype=np.float32) * COARSE + COARSE / 2 for side in shape)
    coarse = np.float32(function(*np.meshgrid(rows, columns, indexing="ij")))
    return cv2.resize(coarse, None, fx=COARSE, fy=COARSE, interpolation=cv2.INTER_LINEAR)[:shape[0], :shape[1]]


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the edge of a mask in px, positive inside, limited to ±`REACH`; float32, shape of the mask."""
    mask = np.uint8(mask)
    if mask.min() == mask.max():
        return np.full(mask.shape, REACH if mask.any() else -REACH, np.float32)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    return cv2.GaussianBlur(np.clip(distance, -REACH, REACH), (0, 0), 0.8)
