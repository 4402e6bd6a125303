"""What a person's work with the server sends over the wire: recorded once, from the real thing, for `load.py` to play.

A recording keeps no ids and no moments: a text is what differs from others in such values alone, and a request is the
number of its text, the names of its values, and where in the answer a value stands that a later request sends.
"""

import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prefect.utilities.graphql import compress, decompress

from harness import HOME, RunningServer, until

FILE = Path(__file__).with_name("recording.json")
PROJECT = "Recorded-by-an-attendee"
HOLE = "«»"
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?"
VALUE = re.compile(rf"{ID}|{MOMENT}|\b[0-9a-f]{{32}}\b|{PROJECT}")
PASSED_ON = ("Content-Type", "X-PREFECT-CORE-VERSION", "X-PREFECT-AGENT-ID", "X-PREFECT-HEARTBEAT-ID", "User-Agent",
             "Accept", "Accept-Encoding")
STOCK = ("PREFECT__CLOUD__LOGGING_HEARTBEAT", "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL")  # as users leave them


def record(folder: Path) -> None:
    """Start an agent, make a project, check the slides of a folder in flow runs one by one, and in a mapped one."""
    with tempfile.TemporaryDirectory() as home:
        server = RunningServer(Path(home))
        proxy = _Proxy(server.port)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        environment = {name: text for name, text in server.environment().items() if name not in STOCK}
        for name in ("PREFECT__SERVER__ENDPOINT", "PREFECT__CLOUD__API"):
            environment[name] = f"http://127.0.0.1:{proxy.server_port}"
        prefect, marks = Path(sys.executable).parent / "prefect", {}

        def run(name: str, *command: object) -> None:
            marks.setdefault(name, len(proxy.seen))
            subprocess.run([*map(str, command)], env=environment, cwd=home, check=True)

        agent = subprocess.Popen([prefect, "agent", "local", "start"], env=environment, cwd=home)
        try:
            marks["start"] = 0
            until(lambda: len(proxy.seen) >= 3, "the agent asks for work")
            run("start", prefect, "create", "project", PROJECT)
            for name, script in (("serial", "pipeline_prefect_server"), ("mapped", "pipeline_prefect_parallel_server")):
                run(name, sys.executable, HOME / "solutions" / f"{script}.py", "--folder", folder, "--output",
                    Path(home) / "output", "--project", PROJECT, "--wait")
        finally:
            agent.terminate()
            agent.wait()
            server.stop()
            proxy.shutdown()
    neutral = {str(HOME): "/home/attendee/workshop", home: "/home/attendee", socket.gethostname(): "laptop"}
    FILE.write_text(_written(_compact(proxy.seen, marks, neutral)), "utf-8")


class _Proxy(ThreadingHTTPServer):
    """Hands requests on to the server, and notes them with their answers in `seen`, in the order of the answers."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.seen: list[tuple[datetime, dict[str, str], dict, dict]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        at = datetime.now(UTC)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.request("POST", self.path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self.server.seen.append((at, headers, json.loads(body), json.loads(text)))
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def _compact(seen: list, marks: dict[str, int], neutral: dict[str, str]) -> dict:
    texts: dict[str, int] = {}
    names: dict[str, str] = {PROJECT: "project"}
    requests = []
    for at, headers, body, answer in seen:
        text = _neutral(_body(body, neutral), neutral)
        values = [_name(value, names, at) for value in VALUE.findall(text)]
        agent = headers.get("X-PREFECT-AGENT-ID")
        new = {}
        for path, value in _leaves(answer):
            if re.fullmatch(ID, value) and value not in names:
                names[value] = f"v{len(names)}"
                new[names[value]] = path
        requests.append([texts.setdefault(VALUE.sub(HOLE, text), len(texts)), values, new,
                         agent and names[agent], "errors" in answer])
    used = {value for request in requests for value in (*request[1], request[3])}
    for request in requests:
        request[2] = {name: path for name, path in request[2].items() if name in used}
    bounds = [*marks.values(), len(requests)]
    return {"texts": list(texts), "sessions": {
        name: requests[start:end] for name, start, end in zip(marks, bounds, bounds[1:], strict=False)}}


def _written(recording: dict) -> str:
    """JSON, with a line for each text and each request."""
    def lines(items: list) -> str:
        return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "]"

    sessions = ",\n".join(f"{json.dumps(name)}: {lines(items)}" for name, items in recording["sessions"].items())
    return f'{{"texts": {lines(recording["texts"])},\n"sessions": {{{sessions}}}}}\n'


def _name(value: str, names: dict[str, str], at: datetime) -> str:
    """What stands for a value: a name, or for a moment its seconds from that of the request."""
    if re.fullmatch(MOMENT, value):
        moment = datetime.fromisoformat(value)
        return f"{(moment.replace(tzinfo=moment.tzinfo or UTC) - at).total_seconds():+.1f}"
    if value not in names:
        names[value] = f"{'id' if '-' in value else 'key'}{len(names)}"  # made by the client, new each time
    return names[value]


def _body(body: dict, neutral: dict[str, str]) -> str:
    """A body as the client sends it; the flow inside it, which is compressed, without this machine's names."""
    if "variables" not in body:  # slideqc.orchestration.servers.check, which is no client
        return json.dumps(body)
    variables = json.loads(body["variables"])
    flow = ((variables or {}).get("input") or {}).get("serialized_flow")
    if isinstance(flow, str):
        plain = _neutral(json.dumps(decompress(flow)), neutral)
        variables["input"]["serialized_flow"] = compress(json.loads(plain))
    return json.dumps({"query": body["query"], "variables": json.dumps(variables)})


def _neutral(text: str, neutral: dict[str, str]) -> str:
    for own, stand_in in neutral.items():
        text = text.replace(own, stand_in)
    return text


def _leaves(value: object, path: tuple = ()) -> Iterator[tuple[list, str]]:
    """The texts in a JSON value, each with the way to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from _leaves(part, (*path, key))
    if isinstance(value, str):
        yield list(path), value
