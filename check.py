"""Is this machine ready, and is my flow right?

    python check.py setup               what the workshop needs, and the command that repairs what is missing
    python check.py 1 my_flow.py        is my_flow.py right for step 1?  (and so on, up to 5)
    python check.py 1 --hints           the hints for step 1; --hint 3 shows only the third
    python check.py 1 --show            the solution of step 1

To check a script, check.py runs its flow, and then the script itself as you do, on two small slides of its own: it
writes nothing to data/ or output/. For steps 2 and 5 it starts a server and an agent of its own, and ends them; it
does not touch yours. Exit status: 0 all is well, 1 something is not right yet, 2 the command was wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# This file imports only the standard library at the top: `setup` has to run where every package is missing.
from slideqc.errors import CommandError
from slideqc.one_line_parser import OneLineParser, suggestion

HOME = Path(__file__).resolve().parent
SUBJECTS = ["setup", "1", "2", "3", "4", "5"]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; CommandError if it is wrong."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                           allow_abbrev=False)
    parser.add_argument("subject", metavar="setup|1|2|3|4|5", nargs="?", help="the set-up, or a step of the README")
    parser.add_argument("script", type=Path, nargs="?", help="your script for that step")
    parser.add_argument("--hints", action="store_true", help="list the hints of the step")
    parser.add_argument("--hint", type=int, metavar="N", help="show one hint of the step")
    parser.add_argument("--show", action="store_true", help="show the whole solution of the step")
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds your script may take (120)")
    parser.add_argument("--folder", type=Path, default=HOME / "data", help="setup: where the slides are (data)")
    parser.add_argument("--output", type=Path, default=HOME / "output", help="setup: where results will go (output)")
    options = parser.parse_intermixed_args(argv)
    subject = options.subject
    if subject is None:
        raise CommandError("what is to be checked? python check.py setup, or python check.py 1 my_flow.py")
    if subject not in SUBJECTS:
        if subject.endswith(".py"):
            raise CommandError(f"which step is {subject} for? python check.py 1 {subject}")
        raise CommandError(f"there is no step {subject}{suggestion(subject, SUBJECTS) or ': see the README'}")
    return options


def check_step(options: argparse.Namespace) -> int:
    """Show the solution of a step or its hints, or check a script; returns the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - users of an older Python have to be told
        raise CommandError("this Python is too old: python check.py setup says which one to take")
    from slideqc.checking.steps import STEPS
    number = int(options.subject)
    step = STEPS[number]
    if options.hint is not None and not 1 <= options.hint <= len(step.hints):
        raise CommandError(f"step {number} has hints 1 to {len(step.hints)}, and no hint {options.hint}")
    if options.hints or options.hint is not None:
        for which, text in enumerate(step.hints.values(), 1):
            if options.hint in (None, which):
                print(f"step {number}, hint {which}: {text}")
        return 0
    if options.show and (HOME / step.solution).exists():
        print((HOME / step.solution).read_text(encoding="utf-8"), end="")
        return 0
    if options.script is None:
        raise CommandError(f"which script? python check.py {number} my_flow.py")
    if not options.script.is_file():
        raise CommandError(f"there is no file {options.script}: python check.py {number} and the path of your script")
    if not 0 < options.timeout <= 86400:
        raise CommandError("--timeout takes a number of seconds, above 0 and up to a day")
    try:
        from slideqc.checking import check_step
    except ImportError as error:
        raise CommandError(f"{error}: python check.py setup says what is missing, and how to get it") from error
    return check_step.check(number, options.script, options.timeout)


def main(argv: list[str] | None = None) -> int:
    """Check the set-up or a step; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a character that the terminal lacks must not end the check
    try:
        options = parse(argv)
        if options.subject != "setup":
            return check_step(options)
        from slideqc.checking import check_setup
        return check_setup.check(options.folder, options.output)
    except CommandError as problem:
        print(f"check.py: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # a reader such as `head` has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("check.py: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
