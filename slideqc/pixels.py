"""The two filters of the pipeline: pure functions from pixels to a mask. They know nothing of files or slides."""

import cv2
import numpy as np

LUMA = np.array([[0.2125, 0.7154, 0.0721]], np.float32)  # gray as scikit-image's rgb2gray weighs it (ITU-R BT.709)
SQUARE = np.ones((5, 5), np.uint8)
LEAST_CONTRAST = 15    # gray levels between tissue and glass: shading and noise of bare glass stay below
LEAST_PIECE = 0.0002   # part of the scanned picture in one piece: dust stays below
BLACK = 40             # gray levels: most inks and stains are lighter than a slide holder or a fluorescent ground
FLAT = 12              # gray levels between neighbours, at most, where there is no structure
FINE_RADIUS = 5        # px: a Gaussian wider than this is computed on means of 2 × 2 pixels


def tissue_mask(rgb: np.ndarray, scanned: np.ndarray) -> np.ndarray:
    """Find the tissue: gray, invert, Otsu's threshold; remove pieces too small to be tissue; close gaps.

    `rgb` is uint8 (height, width, 3); `scanned` uint8 (height, width), 255 where there is a picture, 0 elsewhere.
    Returns uint8 (height, width), 255 on tissue, 0 elsewhere. It is 0 everywhere on a slide without tissue: Otsu's
    threshold always finds something, be it dust or shading.
    """
    inverted = 255 - cv2.transform(rgb, LUMA)
    levels = cv2.calcHist([inverted], [0], scanned, [256], [0, 256]).ravel().astype(float)
    threshold, contrast = otsu(levels)
    if contrast < LEAST_CONTRAST:
        return np.zeros_like(inverted)
    dark = cv2.bitwise_and(cv2.threshold(inverted, threshold, 255, cv2.THRESH_BINARY)[1], scanned)
    # A fibre or a scratch is long, but thinner than the square: only what is wider counts as a piece.
    wide = cv2.morphologyEx(dark, cv2.MORPH_OPEN, SQUARE)
    number, pieces = cv2.connectedComponents(dark)
    is_tissue = np.bincount(pieces[wide.view(bool)], minlength=number) >= LEAST_PIECE * levels.sum()
    tissue = np.uint8(255 * is_tissue)[pieces]
    # Closing fills gaps as wide as a few cells, and leaves the outline where it was. The picture's edge is no outline.
    tissue = cv2.copyMakeBorder(tissue, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=0)
    tissue = cv2.morphologyEx(tissue, cv2.MORPH_CLOSE, SQUARE, iterations=3)
    return cv2.bitwise_and(np.ascontiguousarray(tissue[6:-6, 6:-6]), scanned)


def otsu(levels: np.ndarray) -> tuple[int, float]:
    """Otsu's threshold of a histogram, float (256,), and how far apart the means of the two parts are, in gray levels.

    The threshold belongs to the lower part. Where one part is empty, the means are 0 apart. (Otsu 1979.)
    """
    below, sums = levels.cumsum(), (levels * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.nan_to_num((sums[-1] - sums) / above - sums / below, posinf=0, neginf=0)
    threshold = int(np.argmax(below * above * apart ** 2))
    return threshold, float(apart[threshold])


def dark_surround(rgb: np.ndarray) -> np.ndarray:
    """Find a black border or ground: dark, without structure, connected with the edge of the picture.

    `rgb` is uint8 (height, width, 3); returns uint8 (height, width), 255 there, 0 elsewhere.
    """
    edges = [np.ascontiguousarray(each) for each in (rgb[:1], rgb[-1:], rgb[:, :1], rgb[:, -1:])]
    if min(cv2.transform(edge, LUMA).min() for edge in edges) >= BLACK:
        return np.zeros(rgb.shape[:2], np.uint8)
    gray = cv2.transform(rgb, LUMA)
    smooth = cv2.inRange(cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, SQUARE), 0, FLAT)
    _, pieces = cv2.connectedComponents(cv2.bitwise_and(smooth, cv2.inRange(gray, 0, BLACK)))
    at_edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    black = np.uint8(np.isin(pieces, at_edge[at_edge > 0])) * 255
    # The gradient ends half a square before the border does.
    return cv2.dilate(black, SQUARE, iterations=2)


def filter_reach(blur_radius: float) -> int:
    """How many pixels around each pixel `blurry_mask` looks at: four σ of the Gaussian, and the Laplacian."""
    return 2 * round(2 * blur_radius) + 6


def blurry_mask(rgb: np.ndarray, tissue: np.ndarray, blur_radius: float, blur_threshold: float) -> np.ndarray:
    """Where the tissue is out of focus: few edges, so a small Laplacian all around.

    `rgb` is uint8 (height, width, 3), `tissue` uint8 (height, width); `blur_radius` is σ in pixels; the threshold
    has no unit, since gray values run from 0 to 1. Returns uint8 (height, width), 255 on blurry tissue.
    """
    gray = cv2.transform(np.float32(rgb), LUMA / 255)
    edges = cv2.Laplacian(gray, cv2.CV_32F, borderType=cv2.BORDER_REFLECT)
    np.abs(edges, out=edges)
    smooth = gaussian(edges, blur_radius) if blur_radius <= FINE_RADIUS else wide_gaussian(edges, blur_radius)
    return tissue * (smooth <= blur_threshold)


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """The values, float32 (height, width), under a Gaussian; four σ to each side, as in scikit-image."""
    reach = 2 * round(4 * sigma) + 1
    return cv2.GaussianBlur(values, (reach, reach), sigma, borderType=cv2.BORDER_REPLICATE)


def wide_gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """The same, on means of 2 × 2 pixels, and enlarged again: an eighth of the work, as exact for a wide Gaussian."""
    height, width = values.shape
    even = cv2.copyMakeBorder(values, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    halves = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    smooth = gaussian(halves, np.sqrt(sigma ** 2 - 0.25) / 2)  # the means alone are a blur with σ² = 1/4 px²
    return cv2.resize(smooth, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[:height, :width]
