"""How many requests the server answers, and how fast: clients that play what real ones sent, each as fast as it can.

    python tests/server/load.py [--database URL | --postgresql] [--clients 16] [--seconds 10]
    python tests/server/load.py --record        records anew what is played, from a real agent and real flow runs

Each client has a project and flows of its own, and makes a new connection for each request, as Prefect's does.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import recording

from harness import HOME, Postgres, RunningServer

WARM_UP = 3  # seconds that are not counted: caches fill, and the clients get out of step
HEAD = ("POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: python-requests/2.32.5\r\n"
        "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-PREFECT-CORE-VERSION: 1.4.1\r\n"
        "{agent}Content-Length: {length}\r\nContent-Type: application/json\r\n\r\n")


class Load:
    """Clients of one server; `latencies` are seconds, by what the requests ask for."""

    def __init__(self, port: int) -> None:
        self.port = port
        recorded = json.loads(recording.FILE.read_text("utf-8"))
        self.texts = [text.split(recording.HOLE) for text in recorded["texts"]]
        self.asked = [_asked(text) for text in recorded["texts"]]
        self.sessions = recorded["sessions"]
        self.counting = False
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.surprises: Counter[str] = Counter()

    async def run(self, clients: int, seconds: float, server: psutil.Process) -> tuple[float, float, float, int]:
        """Play for so many seconds; how long it really was, CPU seconds of the server and of this, bytes of memory."""
        tasks = [asyncio.create_task(self._client(number)) for number in range(clients)]
        await asyncio.sleep(WARM_UP)
        self.counting, began, cpu, own, memory = True, time.perf_counter(), _cpu(server), time.process_time(), 0
        while (left := began + seconds - time.perf_counter()) > 0:
            memory = max(memory, server.memory_info().rss)
            await asyncio.sleep(min(0.5, left))
            for task in tasks:
                if task.done():
                    task.result()
        self.counting = False
        figures = (time.perf_counter() - began, _cpu(server) - cpu, time.process_time() - own, memory)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return figures

    async def _client(self, number: int) -> None:
        values = {"project": f"{recording.PROJECT}-{number}-{uuid4().hex[:8]}"}
        await self._play("start", values)
        while True:
            await self._play(random.choice([name for name in self.sessions if name != "start"]), values)

    async def _play(self, session: str, values: dict[str, str]) -> None:
        values = values if session == "start" else dict(values)
        for text, wanted, learned, agent, fails in self.sessions[session]:
            body = self._filled(self.texts[text], wanted, values)
            head = HEAD.format(port=self.port, length=len(body),
                               agent=f"X-PREFECT-AGENT-ID: {values[agent]}\r\n" if agent else "")
            began = time.perf_counter()
            status, answer = await self._ask(head.encode(), body)
            if self.counting:
                self.latencies[self.asked[text]].append(time.perf_counter() - began)
            if status != 200 or (b'"errors"' in answer) != fails:
                self.surprises[f"{self.asked[text]}: {status} {answer[:300].decode()}"] += 1
            found = json.loads(answer) if learned else None
            for name, path in learned.items():
                values[name] = _inside(found, path)

    def _filled(self, parts: list[str], wanted: list[str], values: dict[str, str]) -> bytes:
        filled = [parts[0]]
        for name, part in zip(wanted, parts[1:], strict=True):
            if name[0] in "+-":
                filled.append((datetime.now(UTC) + timedelta(seconds=float(name))).isoformat(timespec="microseconds"))
            elif name in values:
                filled.append(values[name])
            else:
                filled.append(uuid4().hex if name.startswith("key") else str(uuid4()))
                values[name] = filled[-1]
            filled.append(part)
        return "".join(filled).encode()

    async def _ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """One request on a connection of its own, in two writes, as Python's http.client makes them."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connection, ("127.0.0.1", self.port))
            await loop.sock_sendall(connection, head)
            await loop.sock_sendall(connection, body)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await self._more(loop, connection)
            head, _, content = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            while len(content) < length:
                content += await self._more(loop, connection)
        return int(head[9:12]), content

    async def _more(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
        data = await loop.sock_recv(connection, 262144)
        if not data:
            raise ConnectionError("the server closed the connection before it had answered")
        return data


def _asked(text: str) -> str:
    """The first field of a query, which tells what it is about."""
    query = json.loads(text)["query"]
    return query.partition("{")[2].replace("(", " ").replace("{", " ").split()[0]


def _inside(value: object, path: list) -> object:
    for step in path:
        value = value[step]
    return value


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _milliseconds(latencies: list[float]) -> str:
    ordered = sorted(latencies)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {1000 * statistics.median(ordered):6.1f}   p99 {1000 * p99:6.1f}   max {1000 * ordered[-1]:6.1f} ms"


def main(argv: list[str] | None = None) -> int:
    """Measure, or record; returns the exit status, which is 1 where an answer was another than in the recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="a file, or postgresql://… (a new SQLite file)")
    parser.add_argument("--postgresql", action="store_true", help="start a PostgreSQL for it")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--record", action="store_true", help="write recording.json anew; needs slides in --folder")
    parser.add_argument("--folder", type=Path, default=HOME / "data")
    options = parser.parse_args(argv)
    if options.record:
        recording.record(options.folder.resolve())
        return 0
    with tempfile.TemporaryDirectory(prefix="load-") as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (for the user that PostgreSQL runs as)
        (place := Path(home) / "postgres").mkdir()
        postgres = Postgres(place, fsync=True) if options.postgresql else None
        server = RunningServer(Path(home), database=postgres.database() if postgres else options.database)
        try:
            load = Load(server.port)
            took, cpu, own, memory = asyncio.run(
                load.run(options.clients, options.seconds, psutil.Process(server.process.pid)))
        finally:
            server.stop()
            if postgres:
                postgres.stop()
    together = [latency for latencies in load.latencies.values() for latency in latencies]
    for asked, latencies in sorted(load.latencies.items(), key=lambda item: -len(item[1])):
        print(f"{len(latencies):6} {asked:36} {_milliseconds(latencies)}")
    print(f"\n{len(together) / took:.0f} requests/s   {_milliseconds(together)}   memory {memory / 2**20:.0f} MiB   "
          f"{options.clients} clients, {took:.1f} s\nCPU: server {cpu:.1f} s, clients {own:.1f} s of {took:.1f} s; "
          f"load of the machine {os.getloadavg()[0]:.1f}")
    for surprise, times in load.surprises.most_common(10):
        print(f"{times} x {surprise}")
    return 1 if load.surprises else 0


if __name__ == "__main__":
    sys.exit(main())
