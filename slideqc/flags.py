"""The flags that mean the same in every script, checked before any slide is opened."""

import argparse
import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path

from slideqc.errors import CommandError
from slideqc.one_line_parser import OneLineParser
from slideqc.slides import dicom
from slideqc.slides.magnification import parse_work_size

HOME = Path(__file__).resolve().parent.parent  # the folder of the scripts
# The defaults of --folder and --output. The environment can set others, for a script and every process it starts.
DATA = Path(os.environ.get("SLIDEQC_DATA") or HOME / "data")
OUTPUT = Path(os.environ.get("SLIDEQC_OUTPUT") or HOME / "output")
PARAMETERS = ("image_work_size", "blur_work_size", "blur_radius", "blur_threshold", "blur_max")


def parser(description: str) -> argparse.ArgumentParser:
    """The flags of every pipeline; `description` is the script's docstring, shown by --help."""
    flags = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--folder", type=Path, default=DATA, help="where the slides are (data)")
    flags.add_argument("--filetype", default="svs", help="their ending (svs)")
    flags.add_argument("--output", type=_resolved, default=OUTPUT, help="where the results go (output)")
    flags.add_argument("--image-work-size", type=_work_size, default="1.25x", metavar="SIZE",
                       help="magnification of the overview, where tissue is found, or a part of the full size such as "
                       "1/16 (1.25x)")
    flags.add_argument("--blur-work-size", type=_work_size, default="5x", metavar="SIZE",
                       help="magnification at which focus is judged, or a part of the full size (5x)")
    flags.add_argument("--blur-radius", type=_number(above=0, up_to=200), default=7, metavar="PX",
                       help="sigma of the Gaussian, in pixels at --blur-work-size (7)")
    flags.add_argument("--blur-threshold", type=_number(), default=0.05, metavar="T",
                       help="blurry where the smoothed Laplacian of the gray values, 0-1, is at most this (0.05)")
    flags.add_argument("--blur-max", type=_number(up_to=1), default=0.10, metavar="F",
                       help="rescan above this fraction of the tissue, 0-1 (0.10)")
    return flags


def add_workers(flags: argparse.ArgumentParser) -> None:
    """The flag of the parallel scripts."""
    flags.add_argument("--workers", type=count, default=cpus(), metavar="N",
                       help=f"slides checked side by side (the CPUs this process may use: {cpus()})")


def add_executor(flags: argparse.ArgumentParser) -> None:
    """The flags that say where the tasks of a mapped flow run."""
    flags.add_argument("--executor", choices=["local", "threads", "processes", "distributed"], default="threads",
                       help="where tasks run (threads)")
    flags.add_argument("--scheduler-address", metavar="tcp://…",
                       help="of a running Dask cluster, with distributed (starts a local one of --workers processes)")


def add_visualize(flags: argparse.ArgumentParser) -> None:
    """The flag of the flows."""
    flags.add_argument("--visualize", type=Path, metavar="FILE",
                       help="draw the flow to a .png, .svg or .pdf, and check nothing")


def add_server(flags: argparse.ArgumentParser) -> None:
    """The flags of the scripts that send flow runs to a server."""
    flags.add_argument("--project", default="Image QC", help="where the server keeps the flow (Image QC)")
    flags.add_argument("--wait", action="store_true", help="wait for every run, and say how it ended")


def cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parameters(options: argparse.Namespace) -> dict:
    """The parameters of the steps, by their Python names."""
    return {name: getattr(options, name) for name in PARAMETERS}


def slides(folder: Path, filetype: str) -> list[str]:
    """The slides of a folder, absolute and sorted by name; CommandError if there is none, or no such folder.

    The files of one DICOM series are one slide. A link that leads nowhere is a slide, too: its row says so.
    """
    ending = "." + filetype.lower().lstrip("*").lstrip(".")
    try:
        # The system's own files begin with a dot, such as the ._NAME.svs that macOS leaves on shared drives.
        entries = [path for path in folder.absolute().iterdir() if not path.name.startswith(".")]
        files = [path for path in entries if _is_file(path)]
    except OSError as error:
        raise CommandError(f"cannot look into the folder {folder} ({error.strerror}): "
                           "run get_data.py to fetch slides, or name another folder with --folder") from error
    found = [path for path in files if path.name.lower().endswith(ending)]
    if not found:
        others = ", ".join(sorted({path.suffix for path in files if path.suffix})) or "nothing"
        inside = sorted(path.name for path in entries if path.is_dir() and _holds(path, ending))
        if inside:
            raise CommandError(f"no slide *{ending} in {folder} itself, but in its folder {inside[0]}"
                               + (f" and {len(inside) - 1} more" if inside[1:] else "")
                               + f": name one folder at a time, --folder {folder / inside[0]}")
        raise CommandError(f"no slide *{ending} in {folder} (it holds {others}): run get_data.py to fetch slides, "
                           "or name another --folder or --filetype")
    if ending in dicom.ENDINGS:
        found = dicom.one_a_series(found)
    return [str(path) for path in sorted(found, key=lambda path: path.name)]


def _is_file(path: Path) -> bool:
    """Is it a file, or a link that leads nowhere? True as well if the drive does not answer: its row will say so."""
    try:
        return path.is_file() or (path.is_symlink() and not path.exists())
    except OSError:
        return True


def _holds(folder: Path, ending: str) -> bool:
    """Does a folder contain slides?"""
    with contextlib.suppress(OSError):
        return any(path.name.lower().endswith(ending) for path in folder.iterdir() if not path.name.startswith("."))
    return False


def _resolved(text: str) -> Path:
    """An absolute path: the steps may run in a process with another working folder."""
    return Path(text).resolve()


def _work_size(text: str) -> str:
    try:
        parse_work_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _number(above: float = -math.inf, up_to: float = math.inf) -> Callable[[str], float]:
    bounds = f"{'above' if above == 0 else 'from'} 0" + (f" to {up_to:g}" if up_to < math.inf else "")

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if math.isfinite(value) and value >= 0 and above < value <= up_to:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no number {bounds}")
    return number


def count(text: str) -> int:
    """A type of flag: a whole number from 1 up."""
    with contextlib.suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
