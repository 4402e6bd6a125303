"""The error line of a script whose Python lacks the workshop's packages: most often `.venv` is not activated."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"
ACTIVATE = r".venv\Scripts\activate" if os.name == "nt" else ". .venv/bin/activate"
NEEDED = ("cv2", "numpy", "openslide", "prefect", "simplejpeg", "tabulate", "tifffile", "tqdm")


def require() -> None:
    """If a package of the pipelines is missing, print one line and end the script with exit status 2."""
    for package in NEEDED:
        if find_spec(package) is None:
            print(f"{Path(sys.argv[0]).name}: {lacking(package)}", file=sys.stderr)
            sys.exit(2)


def lacking(package: str) -> str:
    """The error line: which Python lacks the package, and the command that fixes it."""
    return f"{sys.executable} lacks the package {package}; {repair()}"


def repair(what: str = "-r requirements.txt") -> str:
    """The command that installs `what` (arguments of pip).

    It uses pip only in a virtual environment, since many systems do not let pip change their own Python.
    """
    pip = f"python -m pip install {what}"
    if (VENV / "pyvenv.cfg").exists() and not VENV.samefile(sys.prefix):
        return f"activate .venv first: {ACTIVATE}"
    if sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").exists():
        return pip
    if os.name == "nt":
        return f"make a virtual environment first: py -3.12 -m venv .venv; {ACTIVATE}; {pip}"
    return f"make run, or make a virtual environment first: python3 -m venv .venv && {ACTIVATE} && {pip}"
