"""Is this machine ready, and is my flow right?

    python check.py setup               what the workshop needs, and the command that repairs what is missing
    python check.py 1 my_flow.py        is my_flow.py right for step 1?  (and so on, up to 5)
    python check.py 1 --hints           the hints for step 1; --hint 3 shows the third one alone
    python check.py 1 --show            the solution of step 1

A script is checked by running its flow, and then the script itself as you do, on two small slides that are made for
it: nothing is written to data/ or output/. For steps 2 and 5 it starts a server and an agent of its own, and ends them;
yours are left alone. Exit status: 0 all is well, 1 not yet, 2 the command was wrong.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from pathlib import Path

# Nothing but the standard library up here: `setup` has to run where everything else is missing.
HOME = Path(__file__).resolve().parent
WHAT = ["setup", "1", "2", "3", "4", "5"]


class _CommandError(Exception):
    """The command itself was wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        words = re.sub(r"^argument (\S+): ", r"\1 ", message)
        words = re.sub(r"invalid (?:int|float) value: (.*)", r"takes a number, and not \1", words)
        raise _CommandError(f"{words} (python check.py --help shows what there is)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("what", metavar="setup|1|2|3|4|5", nargs="?", help="the set-up, or a step of the README")
    parser.add_argument("script", type=Path, nargs="?", help="your script for that step")
    parser.add_argument("--hints", action="store_true", help="list the hints of the step")
    parser.add_argument("--hint", type=int, metavar="N", help="show one hint of the step")
    parser.add_argument("--show", action="store_true", help="show the whole solution of the step")
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds your script may take (120)")
    parser.add_argument("--folder", type=Path, default=HOME / "data", help="setup: where the slides are (data)")
    parser.add_argument("--output", type=Path, default=HOME / "output", help="setup: where results will go (output)")
    return parser


def _options(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; _CommandError, with what was probably meant, for one that is not known."""
    parser = _parser()
    options, unknown = parser.parse_known_intermixed_args(argv)
    if options.what is None:
        raise _CommandError("what is to be checked? python check.py setup, or python check.py 1 my_flow.py")
    if options.what not in WHAT:
        if options.what.endswith(".py"):
            raise _CommandError(f"which step is {options.what} for? python check.py 1 {options.what}")
        raise _CommandError(f"there is no step {options.what}: {_meant(options.what, WHAT) or 'see the README'}")
    if unknown:
        flags = re.findall(r"--\w+", parser.format_usage())
        meant = _meant(unknown[0], flags) or "python check.py --help shows what there is"
        raise _CommandError(f"{unknown[0]} is not known here: {meant}")
    return options


def _meant(word: str, words: list[str]) -> str:
    close = [one for one in words if one in word] or difflib.get_close_matches(word, words, 1)
    return f"did you mean {close[0]}?" if close else ""


def check_step(options: argparse.Namespace) -> int:
    """Tell what was asked about a step: its solution, its hints, or what is not right yet in a script."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one is told so
        raise _CommandError("this Python is too old: python check.py setup says which one to take")
    from slideqc.checking.steps import STEPS
    number = int(options.what)
    step = STEPS[number]
    if options.hint is not None and not 1 <= options.hint <= len(step.hints):
        raise _CommandError(f"step {number} has hints 1 to {len(step.hints)}, and no hint {options.hint}")
    if options.hints or options.hint is not None:
        for which, text in enumerate(step.hints.values(), 1):
            if options.hint in (None, which):
                print(f"step {number}, hint {which}: {text}")
        return 0
    if options.show and (HOME / step.solution).exists():
        print((HOME / step.solution).read_text(encoding="utf-8"), end="")
        return 0
    if options.script is None:
        raise _CommandError(f"which script? python check.py {number} my_flow.py")
    if not options.script.is_file():
        raise _CommandError(f"there is no file {options.script}: python check.py {number} and the path of your script")
    if not 0 < options.timeout <= 86400:
        raise _CommandError("--timeout takes a number of seconds, above 0 and up to a day")
    try:
        from slideqc.checking import check_step
    except ImportError as error:
        raise _CommandError(f"{error}: python check.py setup says what is missing, and how to get it") from error
    from slideqc.errors import CommandError
    try:
        return check_step.check(number, options.script, options.timeout)
    except CommandError as error:
        raise _CommandError(str(error)) from error


def main(argv: list[str] | None = None) -> int:
    """Check what is asked for; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not end the check
    try:
        options = _options(argv)
        if options.what != "setup":
            return check_step(options)
        from slideqc.checking import check_setup
        return check_setup.check(options.folder, options.output)
    except _CommandError as problem:
        print(f"check.py: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads along, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("check.py: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
