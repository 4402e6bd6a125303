"""Did two runs leave the same files, byte for byte? Only `run.json` may differ, since it holds times."""

import hashlib
from pathlib import Path

from slideqc.output.results import TABLES


def fingerprint(output: Path) -> dict[str, str]:
    """The sha256 of each file of an output folder but `run.json`, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in output.iterdir() if path.name != "run.json"}


def first_difference(expected: dict[str, str], found: dict[str, str]) -> str | None:
    """The first file in which two runs differ, in words; None if all files are the same.

    Files of a slide come first, by name, and then the tables that are made of them: a slide's file says more.
    """
    for name in sorted(expected | found, key=lambda name: (name in TABLES, name)):
        if found.get(name) != expected.get(name):
            return (f"{name} is missing" if name not in found else
                    f"{name} should not be there" if name not in expected else f"{name} differs")
    return None
