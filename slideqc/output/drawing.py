"""Draw the overlay and the report's thumbnails; encode arrays as image files and decode them."""

import base64
from collections.abc import Iterable

import cv2
import numpy as np

OUTLINE = (0, 120, 90)     # RGB; green differs from hematoxylin's blue and eosin's pink
TINT = (255, 214, 0)       # RGB; yellow marks tissue out of focus
TINTED = np.round((np.arange(256)[:, None] + TINT) / 2).astype(np.uint8)[None]  # look-up table: half picture, half tint
THUMBNAIL = 420            # longest side of a thumbnail in the report, px
THUMBNAILS_BYTES = 150_000  # the first bytes of a JPEG, which contain its two thumbnails
COMMENT, COMMENT_BYTES = b"\xff\xfe", 65533  # marker of a comment in a JPEG, and the largest comment
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]  # fast, and small files


def overlay(picture: np.ndarray, tissue: np.ndarray, blurry: np.ndarray) -> np.ndarray:
    """Draw the outline of the tissue and tint the blurry tissue.

    `picture` is RGB uint8 (height, width, 3). The masks are uint8 (height, width), 0 or 255. Returns a new RGB picture,
    uint8 (height, width, 3).
    """
    drawn = picture.copy()
    cv2.copyTo(cv2.LUT(picture, TINTED), blurry, drawn)
    outlines, _ = cv2.findContours(tissue, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(drawn, outlines, -1, OUTLINE, max(1, round(max(picture.shape) / 1000)))


def encode(name: str, picture: np.ndarray, small: Iterable[np.ndarray] = ()) -> bytes:
    """Encode a picture, uint8, RGB (height, width, 3) or gray (height, width), as an image file; returns its bytes.

    The ending of `name`, .jpg or .png, gives the format. A JPEG also stores thumbnails of the pictures in `small`, in
    comments at its beginning. So the report reads a few kilobytes of each slide, and decodes no picture.
    """
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    ending = name[name.rindex("."):]
    content = cv2.imencode(ending, picture, JPEG if ending == ".jpg" else PNG)[1].tobytes()
    comments = b"".join(COMMENT + (2 + len(each)).to_bytes(2, "big") + each for each in map(thumbnail, small))
    after = _header_end(content) if comments else 0
    return content[:after] + comments + content[after:]


def thumbnails(start: bytes) -> list[str]:
    """The thumbnails stored in a JPEG, as data URLs; `start` is the first THUMBNAILS_BYTES of the file."""
    found, at = [], _header_end(start)
    while start[at:at + 2] == COMMENT:
        end = at + 2 + int.from_bytes(start[at + 2:at + 4], "big")
        found.append("data:image/jpeg;base64," + base64.b64encode(start[at + 4:end]).decode("ascii"))
        at = end
    return found


def _header_end(jpeg: bytes) -> int:
    return 4 + int.from_bytes(jpeg[4:6], "big")


def decode_mask(content: bytes) -> np.ndarray:
    """Decode a gray image file; returns uint8 (height, width)."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


def thumbnail(picture: np.ndarray) -> bytes:
    """Reduce an RGB picture, uint8 (height, width, 3), so that its longest side is THUMBNAIL px; returns a JPEG."""
    while max(picture.shape[:2]) >= 2 * THUMBNAIL and min(picture.shape[:2]) > 1:
        height, width = (side // 2 for side in picture.shape[:2])  # reducing by exactly 2 is fast
        picture = cv2.resize(picture[:2 * height, :2 * width], (width, height), interpolation=cv2.INTER_AREA)
    scale = THUMBNAIL / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for quality in (80, 40, 10):  # a noisy picture may exceed the largest comment
        content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        if len(content) <= COMMENT_BYTES:
            break
    return content.tobytes()
