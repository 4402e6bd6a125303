"""The folder of one check: slides in `data`, results in `output`, notes of the process that runs the flow.

The attendee's script is kept to it by its environment, so that nothing is written to the real data/ and output/.
"""

import os
import sys
from pathlib import Path

from slideqc.child_process import ChildProcess
from slideqc.flags import HOME

VARIABLE = "SLIDEQC_CHECK"  # the environment variable that names the folder


def environment(folder: Path, *paths: Path) -> dict[str, str]:
    """What to add to the environment of a process for it to use this folder, with `paths` on its Python path."""
    python_path = (*map(str, paths), os.environ.get("PYTHONPATH"))
    return {VARIABLE: str(folder), "SLIDEQC_DATA": str(folder / "data"), "SLIDEQC_OUTPUT": str(folder / "output"),
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)), "PYTHONIOENCODING": "utf-8"}


def run_python(arguments: list[str], script: Path, folder: Path, timeout: float) -> tuple[int | None, str, str]:
    """Run Python in the folder of the check; returns exit status, standard output and standard error.

    The status is None if it was ended at the time-out. The script's folder and the project's are on its Python path.
    """
    env = os.environ | environment(folder, script.parent, HOME)
    with ChildProcess([sys.executable, *arguments], cwd=folder, env=env, log=folder / "run") as child:
        status = child.status(timeout)
    return status, *child.output()


def as_flags(parameters: dict[str, object]) -> list[str]:
    """Parameters as command-line flags."""
    return [word for name, value in parameters.items() for word in (f"--{name.replace('_', '-')}", str(value))]
