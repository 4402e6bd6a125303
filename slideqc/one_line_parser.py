"""A command-line parser that tells a mistake in one line, with the flag that was probably meant.

It needs the standard library alone: check.py and get_data.py use it in a Python that lacks the packages, and check.py
also in an old Python, to say that it is too old.
"""

from __future__ import annotations

import argparse
import difflib
import re

from slideqc.errors import CommandError


class OneLineParser(argparse.ArgumentParser):
    """Raises CommandError for a mistake in the command, where argparse would print its usage and exit."""

    def parse_args(self, argv: list[str] | None = None) -> argparse.Namespace:
        """The options; CommandError for a flag that does not exist."""
        options, unknown = self.parse_known_args(argv)
        self.refuse(unknown)
        return options

    def parse_intermixed_args(self, argv: list[str] | None = None) -> argparse.Namespace:
        """The same, where positional arguments may stand between the flags."""
        options, unknown = self.parse_known_intermixed_args(argv)
        self.refuse(unknown)
        return options

    def refuse(self, unknown: list[str]) -> None:
        """CommandError if there are unknown arguments."""
        if unknown:
            flag = unknown[0].partition("=")[0]
            self.error((f"there is no flag {flag}" if flag.startswith("-") else f"{flag} belongs to no flag")
                       + suggestion(flag, list(self._option_string_actions)))

    def error(self, message: str) -> None:
        """CommandError with the message, and where to find help."""
        words = re.sub(r"^argument (?=\S+: )", "", message)
        words = re.sub(r"invalid (?:int|float) value: (.*)", r"\1 is no number", words)
        raise CommandError(f"{words}; {self.prog} --help explains")


def suggestion(word: str, known: list[str]) -> str:
    """What the user probably meant, in brackets; an empty text if nothing is similar."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (perhaps {close[0]}?)" if close else ""
