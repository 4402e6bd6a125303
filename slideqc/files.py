"""Files that appear whole or not at all."""

import uuid
from collections.abc import Iterable
from pathlib import Path

PART = ".part"


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


def remove_parts(folder: Path) -> None:
    """Remove what killed runs left aside in `folder`."""
    for aside in folder.glob(f".*{PART}"):
        aside.unlink(missing_ok=True)
