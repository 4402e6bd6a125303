"""Pictures for people: the overlay, the small pictures of the report, and image files from and to arrays."""

import base64

import cv2
import numpy as np

OUTLINE = (0, 120, 90)     # green stands off from hematoxylin's blue and eosin's pink
TINT = (255, 214, 0)       # yellow, for the parts out of focus
TINTED = np.round((np.arange(256)[:, None] + TINT) / 2).astype(np.uint8)[None]  # half the picture, half the tint
THUMBNAIL = 420            # longest side in the report, pixels
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]  # quick, and small


def overlay(picture: np.ndarray, tissue: np.ndarray, blurry: np.ndarray) -> np.ndarray:
    """The slide with its tissue outlined and its blurry tissue tinted.

    `picture` is RGB uint8 (height, width, 3), the masks uint8 (height, width), 0 or 255; returns RGB uint8.
    """
    drawn = picture.copy()
    cv2.copyTo(cv2.LUT(picture, TINTED), blurry, drawn)
    outlines, _ = cv2.findContours(tissue, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(drawn, outlines, -1, OUTLINE, max(1, round(max(picture.shape) / 1000)))


def encode(name: str, picture: np.ndarray) -> bytes:
    """An image file's bytes, in the format of the name's ending; RGB (height, width, 3) or gray (height, width)."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    ending = name[name.rindex("."):]
    return cv2.imencode(ending, picture, JPEG if ending == ".jpg" else PNG)[1].tobytes()


def decode_mask(content: bytes) -> np.ndarray:
    """A gray image file as uint8 (height, width)."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


def decode(content: bytes) -> np.ndarray:
    """A colour image file as RGB uint8 (height, width, 3)."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def thumbnail(picture: np.ndarray) -> str:
    """A small JPEG of an RGB picture as a `data:` address, for a page that needs no other file."""
    scale = THUMBNAIL / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return "data:image/jpeg;base64," + base64.b64encode(encode(".jpg", small)).decode("ascii")
