"""The two filters of the pipeline: pure functions from pixels to a mask. They know nothing of files or slides."""

import cv2
import numpy as np

LUMA = np.array([[0.2125, 0.7154, 0.0721]], np.float32)  # gray as scikit-image's rgb2gray weighs it (ITU-R BT.709)
SQUARE = np.ones((5, 5), np.uint8)
LEAST_CONTRAST = 15    # gray levels between tissue and glass: shading and noise of bare glass stay below
LEAST_PIECE = 0.0002   # part of the picture in one piece: dust stays below


def tissue_mask(rgb: np.ndarray) -> np.ndarray:
    """Where the tissue is: gray, invert, Otsu's threshold, dilate with a 5×5 square three times.

    `rgb` is uint8 (height, width, 3); returns uint8 (height, width), 255 on tissue, 0 elsewhere, and 0 everywhere
    on a slide without tissue: Otsu's threshold always finds something, be it dust or shading.
    """
    inverted = 255 - cv2.transform(rgb, LUMA)
    _, dark = cv2.threshold(inverted, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contrast = cv2.mean(inverted, dark)[0] - cv2.mean(inverted, 255 - dark)[0]
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, SQUARE)  # fibres are thinner than the square
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(map(cv2.contourArea, outlines), default=0)
    if dark.all() or contrast < LEAST_CONTRAST or largest < LEAST_PIECE * dark.size:
        return np.zeros_like(dark)
    return cv2.dilate(dark, SQUARE, iterations=3)


def blurry_mask(rgb: np.ndarray, tissue: np.ndarray, blur_radius: float, blur_threshold: float) -> np.ndarray:
    """Where the tissue is out of focus: few edges, so a small Laplacian all around.

    `rgb` is uint8 (height, width, 3), `tissue` uint8 (height, width); `blur_radius` is σ in pixels; the threshold
    has no unit, since gray values run from 0 to 1. Returns uint8 (height, width), 255 on blurry tissue.
    """
    gray = np.empty(rgb.shape[:2], np.float32)
    for top in range(0, len(rgb), 256):  # as floats, the colours of the whole picture would take four times its memory
        gray[top:top + 256] = cv2.transform(np.float32(rgb[top:top + 256]), LUMA / 255)
    edges = np.abs(cv2.Laplacian(gray, cv2.CV_32F, borderType=cv2.BORDER_REFLECT))
    reach = 2 * round(4 * blur_radius) + 1  # four σ to each side, as in scikit-image
    smooth = cv2.GaussianBlur(edges, (reach, reach), blur_radius, borderType=cv2.BORDER_REPLICATE)
    return cv2.bitwise_and(cv2.inRange(smooth, 0, blur_threshold), tissue)
