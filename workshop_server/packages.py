"""What the server says in a Python that lacks its packages: usually this is the Python outside .venv."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from workshop_server.errors import StartError

VENV = Path(__file__).resolve().parent.parent / ".venv"
ACTIVATE = r".venv\Scripts\activate" if os.name == "nt" else ". .venv/bin/activate"
NEEDED = ("anyio", "croniter", "dateutil", "graphql", "httptools", "httpx", "jinja2", "markdown_it", "markupsafe",
          "python_multipart", "sqlalchemy", "starlette", "uvicorn")
FOR_POSTGRESQL = "psycopg"
PIP = "python -m pip install -r requirements.txt"


def require(*names: str) -> None:
    """Raises StartError, in one line, if one of these packages is missing."""
    for name in names:
        if find_spec(name) is None:
            raise StartError(f"{sys.executable} lacks the package {name}; {_repair()}")


def _repair() -> str:
    """How to install it: by pip in a virtual environment, since many a system keeps its own Python to itself."""
    where = "" if Path.cwd() == VENV.parent else f"in {VENV.parent}: "
    if (VENV / "pyvenv.cfg").exists() and not VENV.samefile(sys.prefix):
        return f"{where}activate .venv first: {ACTIVATE}"
    if sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").exists():
        return where + PIP
    if os.name == "nt":
        return f"{where}make a virtual environment first: py -3.12 -m venv .venv; {ACTIVATE}; {PIP}"
    return f"{where}make run, or make a virtual environment first: python3 -m venv .venv && {ACTIVATE} && {PIP}"
