"""What a script says in a Python that lacks the workshop's packages: mostly it is the one outside .venv."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent / ".venv"
NEEDED = ("cv2", "numpy", "openslide", "pebble", "prefect", "simplejpeg", "tabulate", "tifffile", "tqdm")


def require() -> None:
    """End the script in one line, exit status 2, where a package of the pipelines is missing."""
    for package in NEEDED:
        if find_spec(package) is None:
            print(f"{Path(sys.argv[0]).name}: {lacking(package)}", file=sys.stderr)
            sys.exit(2)


def lacking(package: str) -> str:
    """The one line: which Python lacks the package, and the command that helps."""
    if not VENV.is_dir():
        repair = "make run sets everything up (without make: pip install -r requirements.txt)"
    elif VENV.samefile(sys.prefix):
        repair = "pip install -r requirements.txt"
    else:
        repair = "activate .venv first: " + (r".venv\Scripts\activate" if os.name == "nt" else ". .venv/bin/activate")
    return f"{sys.executable} lacks the package {package}; {repair}"
