"""What a script says in a Python that lacks the workshop's packages: mostly it is the one outside .venv."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"
ACTIVATE = r".venv\Scripts\activate" if os.name == "nt" else ". .venv/bin/activate"
NEEDED = ("cv2", "numpy", "openslide", "prefect", "simplejpeg", "tabulate", "tifffile", "tqdm")


def require() -> None:
    """End the script in one line, exit status 2, where a package of the pipelines is missing."""
    for package in NEEDED:
        if find_spec(package) is None:
            print(f"{Path(sys.argv[0]).name}: {lacking(package)}", file=sys.stderr)
            sys.exit(2)


def lacking(package: str) -> str:
    """The one line: which Python lacks the package, and the command that helps."""
    return f"{sys.executable} lacks the package {package}; {repair()}"


def repair(what: str = "-r requirements.txt") -> str:
    """How to install it: by pip in a virtual environment alone, since many a system keeps its own Python to itself."""
    pip = f"python -m pip install {what}"
    if (VENV / "pyvenv.cfg").exists() and not VENV.samefile(sys.prefix):
        return f"activate .venv first: {ACTIVATE}"
    if sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").exists():
        return pip
    if os.name == "nt":
        return f"make a virtual environment first: py -3.12 -m venv .venv; {ACTIVATE}; {pip}"
    return f"make run, or make a virtual environment first: python3 -m venv .venv && {ACTIVATE} && {pip}"
