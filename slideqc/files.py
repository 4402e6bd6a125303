"""Write files atomically, and report a folder that cannot be written to."""

import errno
import uuid
from collections.abc import Iterable
from pathlib import Path

from slideqc.errors import OutputError, SlideError

PART = ".part"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # the next file would fail with these errors too


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write `content`, bytes or parts of them, to a temporary file and rename it to `path`.

    So no process ever reads an incomplete file. Raises OSError; then no temporary file remains.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}{PART}")
    try:
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_output(path: Path, content: bytes | str | Iterable[str]) -> None:
    """Write an output file of a run atomically: bytes of a picture, or text, also in parts.

    Raises OutputError if the file cannot be written, and SlideError if its name is too long.
    """
    if not isinstance(content, bytes):
        # A file name may contain bytes that are not valid UTF-8: they are escaped.
        parts = [content] if isinstance(content, str) else content
        content = (part.encode("utf-8", "backslashreplace") for part in parts)
    try:
        write_whole(path, content)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SlideError(f"cannot write {path} ({error.strerror}): give the slide a shorter name") from error
        raise OutputError(f"cannot write {path} ({error.strerror}): free some space or choose another "
                          "--output; the rows written so far are complete") from error


def remove_parts(folder: Path) -> None:
    """Delete temporary files that killed runs left in `folder`."""
    for temporary in folder.glob(f".*{PART}"):
        temporary.unlink(missing_ok=True)
