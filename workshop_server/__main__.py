"""Start the server, or make a key for it.

    python -m workshop_server
    python -m workshop_server create-key NAME
"""

import argparse
import re
import sys
from contextlib import suppress
from pathlib import Path

from workshop_server import packages
from workshop_server.errors import StartError
from workshop_server.settings import HOST, KEYS, Settings


def main(argv: list[str] | None = None) -> int:
    """Serve until Ctrl-C, or make a key; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        packages.require(*packages.NEEDED)  # before the modules that import them
        if argv[:1] == ["create-key"]:
            return _create_key(argv[1:])
        settings = _settings(argv)
        from workshop_server import start  # takes half a second, which making a key need not wait for
        with suppress(KeyboardInterrupt):  # Ctrl-C: uvicorn has answered the requests that were running
            start.serve(settings)
        return 0
    except StartError as error:
        print(f"workshop_server: {error}", file=sys.stderr)
        return 2


def _settings(argv: list[str]) -> Settings:
    parser = _Parser(prog="python -m workshop_server", description=(
        "A Prefect 1 server without Docker: the API and the pages. Another command, create-key, makes a key for it."))
    default = Settings()
    add = parser.add_argument
    add("--host", default=default.host, help="address to listen on; any but this machine's own needs --api-keys")
    add("--port", type=_port, default=default.port, help="of the API")
    add("--ui-port", type=_port, default=default.ui_port, help="of the pages")
    add("--database", default=default.database, help="a file, or postgresql://USER:PASSWORD@HOST:5432/NAME")
    add("--api-keys", type=Path, metavar="FILE", help="ask for a key of this file, as Prefect Cloud did")
    add("--name", action="append", default=[], metavar="HOST", help="a name that browsers and clients reach it by")
    add("--hooks-to", action="append", default=[], type=_receiver, metavar="HOST[:PORT]",
        help="where web hooks may be sent to; may be repeated")
    for name, what in (("scheduler", "new runs of schedules"), ("zombie", "task runs whose process has died"),
                       ("lazarus", "flow runs whose process has died")):
        add(f"--{name}-interval", type=_seconds, metavar="SECONDS", help=f"between two looks for {what}",
            default=getattr(default, f"{name}_interval"))
    add("--heartbeat-timeout", type=_seconds, default=default.heartbeat_timeout, metavar="SECONDS",
        help="after which a run without a sign of life counts as dead")
    options = vars(parser.parse_args(argv))
    if options["database"].startswith("postgres"):
        packages.require(packages.FOR_POSTGRESQL)
    return Settings(**options | {name: tuple(options[name]) for name in ("name", "hooks_to")})


def _create_key(argv: list[str]) -> int:
    parser = _Parser(prog="python -m workshop_server create-key", description=(
        "Make a key: its owner has a tenant, and sees nothing of the others. It is shown once, and stored hashed."))
    parser.add_argument("owner", metavar="NAME", help="of the attendee, or of the team")
    parser.add_argument("--api-keys", type=Path, metavar="FILE", default=KEYS, help="the file that keeps the keys")
    options = parser.parse_args(argv)
    from workshop_server import api_keys
    print(api_keys.create(options.api_keys, options.owner))
    print(f"the key of {options.owner}, shown this once; start the server with: python -m workshop_server "
          f"--api-keys {options.api_keys}", file=sys.stderr)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise StartError(f"{message}: {self.prog} --help says what there is")


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port, which is a number from 1 to 65535")


def _receiver(text: str) -> str:
    found = re.fullmatch(HOST, text, re.IGNORECASE)
    if found and 0 < int(found[2] or 1) < 65536:
        return text.lower()
    raise argparse.ArgumentTypeError(f"{text} is no HOST and no HOST:PORT, as in hooks.slack.com")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 10**8:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")


if __name__ == "__main__":
    sys.exit(main())
