"""Files that appear whole or not at all, and a folder that takes no more of them."""

import errno
import uuid
from collections.abc import Iterable
from pathlib import Path

from slideqc.errors import OutputError, SlideError

PART = ".part"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # what the next file would meet too


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write `content`, at once or in pieces, beside `path` and rename it there: no reader ever meets half a file."""
    aside = path.with_name(f".{uuid.uuid4().hex}{PART}")
    try:
        with aside.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_output(path: Path, content: bytes | str | Iterable[str]) -> None:
    """Write what a run leaves, whole: a picture, or a text, at once or in pieces.

    Raises OutputError, in words, if the folder does not take it, and SlideError where that is for the name.
    """
    if not isinstance(content, bytes):
        # Names of files may hold bytes that are no text: those are shown escaped.
        pieces = [content] if isinstance(content, str) else content
        content = (piece.encode("utf-8", "backslashreplace") for piece in pieces)
    try:
        write_whole(path, content)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SlideError(f"cannot write {path} ({error.strerror}): give the slide a shorter name") from error
        raise OutputError(f"cannot write {path} ({error.strerror}): make room or give another --output; "
                          "the rows written so far are whole") from error


def remove_parts(folder: Path) -> None:
    """Remove what killed runs left aside in `folder`."""
    for aside in folder.glob(f".*{PART}"):
        aside.unlink(missing_ok=True)
