"""What a room full of attendees asks of the server, at the pace at which they ask: is the instructor's laptop enough?

    python tests/server/room.py [--attendees 30] [--real 0] [--postgresql]

Each attendee has a key, an agent that polls as a stock one does, and the dashboard open in a browser. Three scenes:
they listen; each of them runs step 2 once, at some moment of `--within` seconds; all of them run it at once. Most are
played, from the recording that load.py plays too, each request on a connection of its own; `--real N` of them are
stock agents and the workshop's own script, on slides of `--folder`, and take their CPU time from the same machine.
"""

import argparse
import asyncio
import contextvars
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import recording
import requests
from load import Load

from harness import HOME, Agent, Postgres, RunningServer

POLLS = (0.25, 0.5, 1, 2, 4, 8, 10)     # seconds between the polls of prefect's agent while there is nothing to do
PAGE = 5                                # seconds after which the script of a page asks for it anew
STOCK = ("PREFECT__CLOUD__LOGGING_HEARTBEAT", "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL",
         "PREFECT__CLOUD__HEARTBEAT_MODE")  # as attendees have them
SCRIPT = HOME / "solutions" / "pipeline_prefect_server.py"


@dataclass
class Seat:
    """An attendee: who it is for the server, and how far the run has come that is being played."""

    number: int
    key: str
    cookie: str
    began: float = 0.0      # of the run that is under way, 0 for none
    asked: int = 0          # its requests so far
    gap: float = 0.0        # seconds between two of them
    values: dict[str, str] = field(default_factory=dict)


seat_of_task: contextvars.ContextVar[Seat] = contextvars.ContextVar("seat")


class Room(Load):
    """All the attendees whose part is played, and what the server took to answer them."""

    def __init__(self, server: RunningServer, seats: list[Seat], session_seconds: float) -> None:
        super().__init__(server.port)
        self.ui_port, self.seats, self.session_seconds = server.ui_port, seats, session_seconds
        self.pages: list[float] = []

    async def _ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """As the client of the seat whose task this is: with its key, and at its pace."""
        seat = seat_of_task.get()
        if seat.began:
            await asyncio.sleep(max(0.0, seat.began + seat.asked * seat.gap - time.perf_counter()))
            seat.asked += 1
        began = time.perf_counter()
        with_key = head.removesuffix(b"\r\n") + f"Authorization: Bearer {seat.key}\r\n\r\n".encode()
        answer = await super()._ask(with_key, body)
        if self.counting:
            self.latencies["api"].append(time.perf_counter() - began)
        return answer

    async def arrive(self) -> None:
        """Everyone creates the project and starts the agent."""
        async def one(seat: Seat) -> None:
            seat_of_task.set(seat)
            seat.values["project"] = recording.PROJECT
            await self._play("start", seat.values)
        await asyncio.gather(*(one(seat) for seat in self.seats))

    async def scene(self, seconds: float, within: float | None) -> None:
        """So many seconds with agents and pages; each attendee runs step 2 once, `within` so many of them."""
        others = [asyncio.create_task(part(seat)) for seat in self.seats for part in (self._agent, self._page)]
        self.counting = True
        runs = [asyncio.create_task(self._step_2(seat, random.uniform(0, within))) for seat in self.seats
                if within is not None]
        await asyncio.sleep(seconds)
        await asyncio.gather(*runs)
        self.counting = False
        for task in others:
            task.cancel()
        for ended in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _step_2(self, seat: Seat, after: float) -> None:
        seat_of_task.set(seat)
        await asyncio.sleep(after)
        seat.began, seat.asked = time.perf_counter(), 0
        seat.gap = self.session_seconds / len(self.sessions["serial"])
        await self._play("serial", seat.values)
        seat.began = 0.0

    async def _agent(self, seat: Seat) -> None:
        seat_of_task.set(seat)
        poll = next(request for request in self.sessions["serial"] if self.asked[request[0]] == "get_runs_in_queue")
        self.sessions["poll"] = [[*poll[:2], {}, *poll[3:]]]
        await asyncio.sleep(random.uniform(0, POLLS[-1]))
        while True:
            if not seat.began:  # the polls during a run are part of the recording
                await self._play("poll", seat.values)
            await asyncio.sleep(POLLS[-1])

    async def _page(self, seat: Seat) -> None:
        head = (f"GET /{slug(seat.number)} HTTP/1.1\r\nHost: 127.0.0.1:{self.ui_port}\r\nX-Part: main\r\n"
                f"Cookie: session={seat.cookie}\r\nConnection: close\r\n\r\n").encode()
        await asyncio.sleep(random.uniform(0, PAGE))
        while True:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ui_port)
            writer.write(head)
            answer = await reader.read()
            writer.close()
            if self.counting:
                self.pages.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                self.surprises[f"page: {answer[:200].decode()}"] += 1
            await asyncio.sleep(PAGE)


class Real:
    """An attendee with a home, a stock agent, and the workshop's script."""

    def __init__(self, server: RunningServer, number: int, key: str) -> None:
        self.server, self.key = server, key
        self.home = server.home / f"home-{number}"
        self.home.mkdir()
        self.prefect("backend", "cloud")
        self.prefect("create", "project", "Image QC")
        self.agent = Agent(self)

    def environment(self) -> dict[str, str]:
        found = self.server.environment(self.home) | {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API_KEY": self.key}
        return {name: text for name, text in found.items() if name not in STOCK}

    def prefect(self, *arguments: str) -> None:
        subprocess.run([Path(sys.executable).parent / "prefect", *arguments], env=self.environment(), cwd=self.home,
                       check=True, stdout=subprocess.DEVNULL)

    def step_2(self, folder: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, SCRIPT, "--folder", folder, "--output", self.home / "output", "--wait"], cwd=self.home,
            env=self.environment(), stdout=(self.home / "said").open("wb"), stderr=subprocess.STDOUT)


def slug(number: int) -> str:
    return f"attendee-{number:02}"


def new_key(home: Path, owner: str) -> str:
    """A key, made as the instructor makes it."""
    command = [sys.executable, "-m", "workshop_server", "create-key", owner, "--api-keys", home / "keys.json"]
    done = subprocess.run(command, cwd=HOME, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip()


def play(server: RunningServer, options: argparse.Namespace) -> int:
    """Every scene in turn, a table of what each took; returns how many answers and runs were not as they should be."""
    began = time.perf_counter()
    owned = [new_key(server.home, slug(number)) for number in range(1, options.attendees + 1)]
    print(f"{len(owned)} keys made in {time.perf_counter() - began:.1f} s")
    played = owned[:options.attendees - options.real]
    seats = []
    for number, key in enumerate(played, 1):
        entered = requests.post(f"{server.ui}/login", {"key": key, "next": "/"}, headers={"Origin": server.ui},
                                allow_redirects=False, timeout=30)
        seats.append(Seat(number, key, entered.cookies["session"]))
    room = Room(server, seats, options.session)
    reals = [Real(server, number, key) for number, key in enumerate(owned[len(played):], len(played) + 1)]
    process = psutil.Process(server.process.pid)
    wrong = 0
    kind = "PostgreSQL" if options.postgresql else "SQLite"
    print(f"{options.attendees} attendees, {options.real} of them real; {kind}; "
          f"load of the machine {os.getloadavg()[0]:.1f}\n\n"
          "scene                seconds  requests/s  busiest s  API p50 / p99 ms  pages p99 ms  server CPU  MiB")

    async def scenes() -> None:
        nonlocal wrong
        await room.arrive()
        for name, seconds, within in (("they listen", options.idle, None),
                                      (f"step 2 within {options.within:.0f} s", options.within, options.within),
                                      ("all at once", options.session, 2)):
            room.latencies.clear()
            room.pages.clear()
            ticking = asyncio.create_task(_seconds(room))
            began, cpu, runs = time.perf_counter(), process.cpu_times(), []
            if within is not None:
                runs = [real.step_2(options.folder) for real in reals]
            await room.scene(seconds, within)
            took, now, busiest = time.perf_counter() - began, process.cpu_times(), await _stop(ticking)
            share = (now.user + now.system - cpu.user - cpu.system) / took
            api, pages = room.latencies["api"], room.pages
            print(f"{name:20} {took:7.0f} {(len(api) + len(pages)) / took:11.1f} {busiest:10} "
                  f"{1000 * at(0.5, api):9.0f} / {1000 * at(0.99, api):<6.0f} {1000 * at(0.99, pages):12.0f} "
                  f"{100 * share:9.1f} % {process.memory_info().rss / 2**20:5.0f}", flush=True)
            for real, run in zip(reals, runs, strict=False):
                if await asyncio.to_thread(run.wait):
                    wrong += 1
                    print(f"a real run went wrong: {(real.home / 'said').read_text('utf-8')[-600:]}")
        if reals:
            print(f"\nreal attendees: {2 * len(reals)} runs of step 2, {wrong} of them went wrong")
    try:
        asyncio.run(scenes())
    finally:
        for real in reals:
            real.agent.stop()
    for surprise, times in room.surprises.most_common(10):
        print(f"{times} x {surprise}")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    return wrong + sum(room.surprises.values())


async def _seconds(room: Room) -> int:
    """The most requests that were answered in one second."""
    most, before = 0, 0
    try:
        while True:
            await asyncio.sleep(1)
            now = len(room.latencies["api"]) + len(room.pages)
            most, before = max(most, now - before), now
    except asyncio.CancelledError:
        return most


async def _stop(task: asyncio.Task) -> int:
    task.cancel()
    return await task


def at(part: float, seconds: list[float]) -> float:
    """The time within which this part of them was answered; not a number where there were none."""
    ordered = sorted(seconds) or [math.nan]
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def main(argv: list[str] | None = None) -> int:
    """Measure; returns the exit status, which is 1 where an answer or a run was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attendees", type=int, default=30)
    parser.add_argument("--real", type=int, default=0, metavar="N", help="so many of them with a real agent (0)")
    parser.add_argument("--postgresql", action="store_true", help="start a PostgreSQL for it (SQLite)")
    parser.add_argument("--idle", type=float, default=60, metavar="S", help="seconds of the first scene (60)")
    parser.add_argument("--within", type=float, default=120, metavar="S", help="seconds of the second scene (120)")
    parser.add_argument("--session", type=float, default=12, metavar="S", help="that a laptop takes for step 2 (12)")
    parser.add_argument("--folder", type=Path, default=HOME / "data", help="slides of the real ones (data)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="room-", ignore_cleanup_errors=True) as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (for the user that PostgreSQL runs as)
        (place := Path(home) / "postgres").mkdir()
        postgres = Postgres(place, fsync=True) if options.postgresql else None
        new_key(Path(home), "instructor")
        server = RunningServer(Path(home), "--api-keys", Path(home) / "keys.json",
                               database=postgres.database() if postgres else None)
        try:
            return 1 if play(server, options) else 0
        finally:
            server.stop()
            if postgres:
                postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
