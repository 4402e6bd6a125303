"""Cloud hooks and messages: what fires, what arrives where, what is refused, and what a killed server keeps."""

import json
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import prefect
import pytest
import sqlalchemy as sa
from prefect import Client

from harness import HOME, PATIENCE, RunningServer, free_port, until
from workshop_server import api_keys
from workshop_server.context import ServerContext
from workshop_server.errors import RequestError
from workshop_server.flows import registration
from workshop_server.hooks import cloud_hooks, delivery
from workshop_server.runs import flow_runs, states
from workshop_server.settings import Settings
from workshop_server.store import tables, timestamps
from workshop_server.store.database import VERSION, Database, insert_unique
from workspace import Workspace, as_client_of, plain_flow

FAILED = prefect.engine.state.Failed("a slide is missing")


@dataclass
class Receiver:
    """A web server on loopback that keeps what it is sent; `answer` says how it answers, `Location` included."""

    answer: Callable[[int], tuple[int, dict[str, str]]] = lambda _: (200, {})
    port: int = 0
    got: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.got.append({"path": self.path, "type": self.headers["Content-Type"], "json": json.loads(body),
                                  "cookie": self.headers["Cookie"]})
                status, headers = outer.answer(len(outer.got))
                self.send_response(status)
                for name, value in {"Content-Length": "0", "Set-Cookie": "a=b; Path=/", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                outer.got.append({"path": self.path, "json": None})
                self.send_error(405)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        self.place, self.url = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}/hook?token=hush"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


# What fires, through the whole server

@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A server that may send to a receiver, on either kind of database; and the receiver."""
    home, there = tmp_path_factory.mktemp(request.param), Receiver()
    more = {} if request.param == "sqlite" else {"database": request.getfixturevalue("postgres").database()}
    running = RunningServer(home, "--hooks-to", there.place, **more)
    yield running, there
    running.stop()
    there.stop()


@pytest.fixture
def space(told: tuple[RunningServer, Receiver]) -> Iterator[Workspace]:
    with as_client_of(told[0]):
        yield Workspace(told[0])


def hook(space: Workspace, kind: str = cloud_hooks.MESSAGE, *states_of: str, **more: object) -> str:
    return space.do("create_cloud_hook", tenant_id=space.tenant, type=kind, states=list(states_of or ("Failed",)),
                    **{"name": "watch", **more})["id"]


def texts(space: Workspace) -> list[str]:
    return [row["text"] for row in space.rows("message", "text", tenant_id=space.tenant)]


def test_a_run_that_fails_leaves_one_message(space: Workspace) -> None:
    hook_id = hook(space, cloud_hooks.MESSAGE, "Failed", "Cancelled")
    run_id = space.running("a")
    task_run = space.task_run(run_id)
    space.client.set_task_run_state(task_run, prefect.engine.state.Running(), version=0)
    space.client.set_task_run_state(task_run, FAILED, version=1)
    assert texts(space) == []  # neither other states of the flow run, nor those of its task runs
    for _ in range(3):  # as a client does that did not hear the answer
        space.client.set_flow_run_state(run_id, FAILED, version=2)
    space.client.set_flow_run_state(run_id, prefect.engine.state.Failed("in other words"), version=3)
    (message,) = space.rows("message", "id type text content read created updated tenant { id }",
                            tenant_id=space.tenant)
    name = space.read("flow_run", run_id, "name")["name"]
    assert message["text"] == f'Run "{name}" of flow "a" is Failed: a slide is missing'
    assert message["type"] == "CLOUD_HOOK" and message["read"] is False and message["tenant"] == {"id": space.tenant}
    content = message["content"]
    assert (content["cloud_hook_id"], content["flow_run_id"], content["state"]) == (hook_id, run_id, "Failed")
    space.client.set_flow_run_state(run_id, prefect.engine.state.Scheduled(), version=4)
    space.client.set_flow_run_state(run_id, FAILED, version=5)
    assert len(texts(space)) == 2  # it entered the state once more
    space.client.cancel_flow_run(space.running("a"))
    assert len(texts(space)) == 2  # Cancelling is not Cancelled
    space.client.cancel_flow_run(space.run("a"))
    assert len(texts(space)) == 3


def test_a_real_flow_run_fires_once(told: tuple[RunningServer, Receiver], space: Workspace) -> None:
    """Prefect's own runner takes the run through its states."""
    server, there = told
    hook(space, cloud_hooks.MESSAGE, *states.KNOWN)
    hook(space, cloud_hooks.WEB, "success", config={"url": there.url})
    flow = plain_flow("a", "b", name="real")
    run_id = space.client.create_flow_run(flow_id=space.register(flow))
    script = server.home / "run.py"
    script.write_text(f"""
import prefect
from prefect import Flow, Task
from prefect.engine.cloud import CloudFlowRunner
flow = Flow("real", tasks=[Task(name="a"), Task(name="b")])
with prefect.context(flow_run_id={run_id!r}, flow_run_version=1, running_with_backend=True):
    state = CloudFlowRunner(flow=flow).run()
assert state.is_successful(), state
""", encoding="utf-8")
    done = server.python(script)
    assert done.returncode == 0, done.stderr
    entered = [row["state"] for row in space.rows("flow_run_state", "state", "{id: asc}", flow_run_id=run_id)]
    said = [text.split(" is ")[1].partition(":")[0] for text in texts(space)]
    assert said == list(dict.fromkeys(entered)) == ["Scheduled", "Running", "Success"]
    mine = until(lambda: [each for each in there.got if each["json"].get("flow_run_id") == run_id], "the web hook")
    time.sleep(3)  # a pass further
    assert len(mine) == 1 and mine[0]["json"]["state"] == "Success"


def test_hook_of_one_flow(space: Workspace) -> None:
    runs_of = {name: space.run(name) for name in ("a", "b", "c")}
    (one,) = space.rows("flow", "version_group_id flow_group_id", id=space.flows["a"])
    (two,) = space.rows("flow", "version_group_id flow_group_id", id=space.flows["b"])
    hook(space, version_group_id=one["version_group_id"])
    named = hook(space, flow_group_id=two["flow_group_id"])
    assert space.read("cloud_hook", named, "version_group_id")["version_group_id"] == two["version_group_id"]
    for run_id in runs_of.values():
        space.client.set_flow_run_state(run_id, FAILED, version=1)
    assert [re.search('flow "(.)"', text)[1] for text in texts(space)] == ["a", "b"]
    assert "not found" in space.problem("create_cloud_hook", type=cloud_hooks.MESSAGE, states=["Failed"],
                                        tenant_id=space.tenant, version_group_id="nobody's")


def test_hook_is_switched_off_and_on_and_deleted(space: Workspace) -> None:
    hook_id, count = hook(space), []
    for mutation in (None, "set_cloud_hook_inactive", "set_cloud_hook_active", "delete_cloud_hook"):
        if mutation:
            assert space.do(mutation, cloud_hook_id=hook_id) == {"success": True}
        space.client.set_flow_run_state(space.run("a"), FAILED, version=1)
        count.append(len(texts(space)))
    assert count == [1, 1, 2, 2]
    assert space.read("cloud_hook", hook_id, "id") is None
    assert "not found" in space.problem("set_cloud_hook_active", cloud_hook_id=hook_id)


def test_messages_are_marked_and_deleted(space: Workspace) -> None:
    hook(space)
    space.client.set_flow_run_state(space.run("a"), FAILED, version=1)
    (row,) = space.rows("message", "id", tenant_id=space.tenant)
    for mutation, read in (("mark_message_as_read", True), ("mark_message_as_unread", False)):
        assert space.do(mutation, message_id=row["id"]) == {"success": True}
        found = space.server.ask(f'{{message_aggregate(where: {{read: {{_eq: {str(read).lower()}}}, '
                                 f'tenant_id: {{_eq: "{space.tenant}"}}}}) {{aggregate {{count}}}}}}')
        assert found["message_aggregate"]["aggregate"]["count"] == 1
    assert space.do("delete_message", message_id=row["id"]) == {"success": True}
    assert texts(space) == []


def test_as_prefects_documentation_writes_it(space: Workspace, told: tuple[RunningServer, Receiver]) -> None:
    """An enumeration for the type, the config as text, states in any case."""
    made = space.client.graphql("""mutation { create_cloud_hook(input: {type: SLACK_WEBHOOK, name: "Global",
        version_group_id: null, tenant_id: "%s", states: ["failed", "Triggerfailed", "TIMEDOUT", "Failed"],
        config: "{\\"url\\": \\"%s\\"}"}) { id } }""" % (space.tenant, told[1].url))  # noqa: UP031 (braces)
    row = space.read("cloud_hook", made["data"]["create_cloud_hook"]["id"], "name type states config active")
    assert row == {"name": "Global", "type": "SLACK_WEBHOOK", "states": ["Failed", "TriggerFailed", "TimedOut"],
                   "config": {"url": told[1].url}, "active": True}


def test_python_of_the_readme(space: Workspace) -> None:
    text = (HOME / "workshop_server" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    before = {row["id"] for row in space.rows("cloud_hook", "id")}
    exec(block, {"Client": Client})
    (made,) = [row for row in space.rows("cloud_hook", "id name states") if row["id"] not in before]
    assert made["name"] == "what fails" and made["states"] == ["Failed", "Cancelled"]


def test_web_hooks_arrive_as_json(told: tuple[RunningServer, Receiver], space: Workspace) -> None:
    there = told[1]
    web, slack = (hook(space, kind, config={"url": f"{there.url}&of={space.name}"})
                  for kind in (cloud_hooks.WEB, cloud_hooks.SLACK))
    run_id = space.run("a", run_name="<!channel> & more")
    space.client.set_flow_run_state(run_id, FAILED, version=1)

    def mine() -> list[dict]:
        return [each for each in there.got if each["path"].endswith(space.name)]
    until(lambda: len(mine()) == 2, "both arrive")
    by_keys = {len(each["json"]) > 1: each for each in mine()}
    assert {each["type"] for each in mine()} == {"application/json"}
    assert {each["path"] for each in mine()} == {f"/hook?token=hush&of={space.name}"}
    sent = by_keys[True]["json"]
    assert (sent["cloud_hook_id"], sent["flow_run_id"], sent["state"]) == (web, run_id, "Failed")
    assert (sent["flow_run_name"], sent["flow_name"], sent["state_message"]) == (
        "<!channel> & more", "a", "a slide is missing")
    assert sent["tenant_id"] == space.tenant and sent["event_id"] and sent["timestamp"]
    assert by_keys[False]["json"] == {
        "text": 'Run "&lt;!channel&gt; &amp; more" of flow "a" is Failed: a slide is missing'}
    space.do("test_cloud_hook", cloud_hook_id=slack)
    space.do("test_cloud_hook", cloud_hook_id=web, flow_run_id=run_id, state_type="cancelled")
    until(lambda: len(mine()) == 4, "the tests arrive")
    tests = sorted(each["json"]["text"] for each in mine()[2:])
    assert tests[0] == 'A test of the hook "watch", for the state Failed'
    assert tests[1].startswith('A test of the hook "watch": Run "<!channel> & more" of flow "a" is Cancelled')
    assert texts(space) == []
    assert "hush" not in told[0].said()


@pytest.mark.parametrize("kind", cloud_hooks.NOT_SENT)
def test_what_is_not_sent_says_what_is(space: Workspace, kind: str) -> None:
    problem = space.problem("create_cloud_hook", tenant_id=space.tenant, type=kind, states=["Failed"],
                            config={"to": "a@example.org"})
    assert kind in problem and "use PREFECT_MESSAGE" in problem and "\n" not in problem


@pytest.mark.parametrize(("given", "words"), [
    ({"states": []}, "needs states"), ({"states": ["Failed", "Broken"]}, "'Broken' is not a state"),
    ({"name": "x" * 201}, "at most 200 characters"), ({"type": "WEBHOOK"}, "needs {\"url\": …}"),
    ({"type": "WEBHOOK", "config": "{"}, "needs {\"url\": …}"),
    ({"type": "WEBHOOK", "config": {"url": ["http://127.0.0.1"]}}, "needs {\"url\": …}"),
    ({"flow_group_id": "00000000-0000-0000-0000-000000000000"}, "not found"),
    ({"tenant_id": "00000000-0000-0000-0000-000000000000"}, "not found")])
def test_hooks_that_cannot_be(space: Workspace, given: dict, words: str) -> None:
    problem = space.problem("create_cloud_hook", **{"tenant_id": space.tenant, "type": "PREFECT_MESSAGE",
                                                    "states": ["Failed"], **given})
    assert words in problem and "\n" not in problem


def test_a_tenant_has_a_hundred_hooks_at_most(space: Workspace) -> None:
    for _ in range(100):
        hook(space)
    assert "100 hooks" in space.problem("create_cloud_hook", tenant_id=space.tenant, type="PREFECT_MESSAGE",
                                        states=["Failed"])


def test_a_test_of_a_hook_knows_its_own_runs_alone(space: Workspace) -> None:
    other = Workspace(space.server)
    problem = space.problem("test_cloud_hook", cloud_hook_id=hook(space), flow_run_id=other.run("a"))
    assert "not found" in problem and texts(space) == texts(other) == []


# Where web hooks may go

ALLOWED = ("hooks.example.org", "lab.example:8000", "127.0.0.1:9000", "[::1]:9000")


@pytest.mark.parametrize("url", [
    "https://hooks.example.org/a/b?c=d#e", "http://hooks.example.org", "HTTPS://Hooks.Example.ORG:443/",
    "http://lab.example:8000/", "https://lab.example:8000", "http://127.0.0.1:9000/x", "http://[::1]:9000/"])
def test_allowed_addresses(url: str) -> None:
    import httpx
    place, read = cloud_hooks.receiver(url, ALLOWED), httpx.URL(url)
    assert place in ALLOWED
    port = read.port or cloud_hooks.PORTS[read.scheme]
    assert read.netloc.decode().partition(":")[0] == place.partition(":")[0]  # what sends it, reads it alike
    assert port == int(place.rpartition(":")[2]) if place.count(":") else port in (80, 443)


@pytest.mark.parametrize("url", [
    "http://lab.example/", "http://lab.example:8001/", "https://hooks.example.org:8443/", "https://example.org/",
    "https://a.hooks.example.org/", "https://hooks.example.org.evil.example/", "https://hooks.example.org./",
    "http://evilhooks.example.org/", "http://127.0.0.1/", "http://127.1:9000/", "http://2130706433:9000/",
    "http://0x7f.1:9000/", "http://localhost:9000/", "http://[::ffff:127.0.0.1]:9000/", "http://169.254.169.254/"])
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(RequestError, match=r"--hooks-to"):
        cloud_hooks.receiver(url, ALLOWED)


@pytest.mark.parametrize("url", [
    "", "hooks.example.org", "//hooks.example.org/", "ftp://hooks.example.org/", "file:///etc/passwd",
    "gopher://hooks.example.org/", "https://me:secret@hooks.example.org/", "https://me@hooks.example.org/",
    "https://hooks.example.org@evil.example/", "https://evil.example\\@hooks.example.org/",
    "https://hooks.example.org\\.evil.example/", "https://hooks.example.org/a b", "https://hooks.example.org/\r\nX: y",
    "https://hooks.example.org\n", " https://hooks.example.org", "https://hooks.example.org:0/", "http:///x",
    "https://hooks.example.org:99999/", "https://hooks.example.org:٤٤٣/", "https://hooks.example.org/é",
    "https://hооks.example.org/", "https://hooks.example.org/" + "x" * 2000, None, 7])
def test_what_is_no_address_is_refused(url: object) -> None:
    with pytest.raises(RequestError, match="needs"):
        cloud_hooks.receiver(url, ALLOWED)


@pytest.mark.parametrize("place", ["", "a b", "http://example.org", "me@example.org", "example.org:x", "a:70000", "*"])
def test_flag_takes_hosts_alone(place: str, capsys: pytest.CaptureFixture) -> None:
    from workshop_server.__main__ import main
    assert main(["--hooks-to", place]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


# The sender, in the process of the test

class Here:
    """A database with a tenant, a flow and hooks, and the sender at hand."""

    def __init__(self, url: str, *receivers: str) -> None:
        self.settings = Settings(database=url, hooks_to=receivers, hook_backoff=0.01)
        self.server = ServerContext(self.settings, Database(url))
        with self.write() as conn:
            self.tenant = conn.scalar(sa.select(tables.tenant.c.id))
            project = insert_unique(conn, tables.project, tenant_id=self.tenant, name=tables.new_id())
            self.flow = registration.register(conn, None, project, plain_flow("a", "b").serialize())

    def write(self) -> object:
        return self.server.database.write()

    def hook(self, url: str, kind: str = cloud_hooks.WEB, name: str = "to the lab", allowed: str | None = None) -> str:
        with self.write() as conn:
            place = allowed or url.partition("//")[2].partition("/")[0]
            return cloud_hooks.create(conn, self.tenant, kind=kind, states=["Failed"], name=name, config={"url": url},
                                receivers=[place])

    def fail(self) -> str:
        with self.write() as conn:
            run_id = flow_runs.create(conn, None, flow_id=self.flow, name="amber-otter")
            states.set_flow_run_state(conn, None, run_id, states.make("Failed", "a slide is missing"))
            return run_id

    def all(self, table: sa.Table) -> list[sa.Row]:
        with self.server.database.read() as conn:
            return conn.execute(sa.select(table)).all()

    def send(self) -> int:
        time.sleep(0.02)
        return delivery.send_hooks(self.server)

    def send_until_given_up(self, passes: int = 8) -> sa.Row:
        for _ in range(passes):
            self.send()
            time.sleep(0.2)
            if not self.all(tables.hook_delivery):
                break
        (message,) = self.all(tables.message)
        return message


@contextmanager
def opened(url: str, *receivers: str) -> Iterator[Here]:
    made = Here(url, *receivers)
    yield made
    made.server.database.close()


@pytest.fixture
def here(database_url: str, receiver: Receiver) -> Iterator[Here]:
    with opened(database_url, receiver.place) as made:
        yield made


def test_sent_once(here: Here, receiver: Receiver) -> None:
    here.hook(receiver.url)
    here.fail()
    assert [here.send(), here.send()] == [1, 0] and len(receiver.got) == 1
    assert here.all(tables.hook_delivery) == here.all(tables.message) == []


def test_state_that_is_rolled_back_tells_nothing(here: Here, receiver: Receiver) -> None:
    here.hook(receiver.url)
    here.hook(receiver.url, cloud_hooks.MESSAGE)
    with pytest.raises(ZeroDivisionError), here.write() as conn:
        run_id = flow_runs.create(conn, None, flow_id=here.flow)
        states.set_flow_run_state(conn, None, run_id, states.make("Failed", ""))
        raise ZeroDivisionError
    assert here.all(tables.hook_delivery) == here.all(tables.message) == here.all(tables.flow_run) == []


def test_sent_again_until_it_is_answered_well(here: Here, receiver: Receiver) -> None:
    receiver.answer = lambda count: (200 if count == 3 else 503, {})
    here.hook(receiver.url)
    here.fail()
    assert here.send() == 0
    (waiting,) = here.all(tables.hook_delivery)
    assert waiting.attempts == 1
    until(here.send, "the third attempt", 10)
    assert len(receiver.got) == 3 and len({each["json"]["event_id"] for each in receiver.got}) == 1
    assert here.all(tables.hook_delivery) == here.all(tables.message) == []


def test_a_back_off_is_waited_for(here: Here, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    object.__setattr__(here.settings, "hook_backoff", 60.0)
    here.hook(receiver.url)
    here.fail()
    assert here.send() == here.send() == 0 and len(receiver.got) == 1


def test_receiver_that_is_down_is_given_up_with_a_message(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    object.__setattr__(here.settings, "hooks_to", (f"127.0.0.1:{port}",))
    with caplog.at_level(logging.DEBUG):
        hook_id = here.hook(f"http://127.0.0.1:{port}/services/hush")
        run_id = here.fail()
        message = here.send_until_given_up()
    assert message.type == "CLOUD_HOOK_FAILED" and message.content["flow_run_id"] == run_id
    assert message.content["cloud_hook_id"] == hook_id
    assert message.text == (
        f'The hook "to the lab" gave up after 4 attempts, because 127.0.0.1:{port} cannot be reached (ConnectError). '
        'It had to tell: Run "amber-otter" of flow "plain" is Failed: a slide is missing')
    assert "hush" not in caplog.text and "hush" not in str(message)


def test_redirect_is_not_followed(here: Here, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    inside = Receiver()
    receiver.answer = lambda _: (302, {"Location": f"http://{inside.place}/secret"})
    with caplog.at_level(logging.DEBUG):
        here.hook(receiver.url)
        here.fail()
        assert "answered 302 Found" in here.send_until_given_up().text
    inside.stop()
    assert "hush" not in caplog.text
    assert len(receiver.got) == delivery.ATTEMPTS and inside.got == []


def test_errors_of_the_database_show_no_address(here: Here) -> None:
    with pytest.raises(sa.exc.IntegrityError) as error, here.write() as conn:
        conn.execute(sa.insert(tables.cloud_hook).values(
            tenant_id=tables.new_id(), name="x", type=cloud_hooks.WEB, states=[], config={"url": "hush"}))
    assert "hush" not in str(error.value)


def test_proxies_of_the_environment_are_not_used(here: Here, receiver: Receiver,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Receiver()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{proxy.place}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    here.hook(receiver.url)
    here.fail()
    assert here.send() == 1
    proxy.stop()
    assert proxy.got == []


def test_cookies_are_nobodys(here: Here, receiver: Receiver) -> None:
    for number in range(3):
        here.hook(receiver.url, name=str(number))
    here.fail()
    assert here.send() == 3
    here.fail()
    assert here.send() == 3
    assert {each["cookie"] for each in receiver.got} == {None}


def test_host_that_is_no_longer_allowed_gets_nothing(here: Here, receiver: Receiver) -> None:
    here.hook(receiver.url)
    here.fail()
    object.__setattr__(here.settings, "hooks_to", ("hooks.example.org",))
    here.send()
    (message,) = here.all(tables.message)
    assert f"--hooks-to {receiver.place}" in message.text and "after 1 attempt," in message.text
    assert receiver.got == [] and here.all(tables.hook_delivery) == []


@contextmanager
def dribbling() -> Iterator[str]:
    """A receiver that answers byte by byte, for ever; each byte in time, the whole never."""
    import socket
    stopped, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def dribble(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stopped.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                pass

    def serve() -> None:
        while not stopped.is_set():
            try:
                threading.Thread(target=dribble, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    stopped.set()
    listener.close()


def test_slow_receiver_is_in_nobodys_way(here: Here, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS", 3.0)
    object.__setattr__(here.settings, "hook_backoff", 60.0)
    with dribbling() as slow:
        object.__setattr__(here.settings, "hooks_to", (receiver.place, slow))
        here.hook(f"http://{slow}/", name="slow")
        for _ in range(delivery.OF_ONE + 5):  # more than go out at the same time
            here.fail()
        here.hook(receiver.url)
        here.fail()
        passing = threading.Thread(target=here.send, daemon=True)
        passing.start()
        until(lambda: receiver.got, "the other one arrives")
        here.fail()  # the database is free meanwhile
        assert passing.is_alive()
        passing.join(PATIENCE)
        assert not passing.is_alive()  # without a limit for the whole answer, it would never end
        here.send()  # on a busy machine, that pass ended before it saw the last one
    assert len(receiver.got) == 2 and {row.attempts for row in here.all(tables.hook_delivery)} <= {0, 1}


def test_hook_that_is_switched_off_or_deleted_sends_nothing_more(here: Here, receiver: Receiver) -> None:
    one, two = here.hook(receiver.url), here.hook(receiver.url)
    here.fail()
    with here.write() as conn:
        cloud_hooks.set_active(conn, here.tenant, one, active=False)
        conn.execute(sa.delete(tables.cloud_hook).where(tables.cloud_hook.c.id == two))
    assert here.send() == 0 and receiver.got == here.all(tables.hook_delivery) == []


def test_of_two_servers_one_sends(here: Here, receiver: Receiver, database_url: str) -> None:
    here.hook(receiver.url)
    for _ in range(20):
        here.fail()
    with opened(database_url, receiver.place) as twin:
        senders = [threading.Thread(target=each.send) for each in (here, twin)]
        for each in senders:
            each.start()
        for each in senders:
            each.join(30)
    assert len(receiver.got) == 20 and len({each["json"]["event_id"] for each in receiver.got}) == 20


def test_what_a_state_costs(here: Here, receiver: Receiver) -> None:
    """Without hooks one query by an index for a flow run's state, none for a task run's."""
    with here.write() as conn:
        run_id = flow_runs.create(conn, None, flow_id=here.flow)
        states.set_flow_run_state(conn, None, run_id, states.make("Running", ""))
        task_run = conn.scalar(sa.select(tables.task_run.c.id).where(tables.task_run.c.flow_run_id == run_id))
    asked = []
    sa.event.listen(here.server.database.engine, "before_cursor_execute",
                    lambda *details: asked.append((details[2], details[3])))
    with here.write() as conn:
        states.set_task_run_state(conn, None, task_run, states.make("Running", ""))
        states.set_task_run_state(conn, None, task_run, states.make("Failed", ""))
    assert not [text for text, _ in asked if "hook" in text or "message (" in text]
    asked.clear()
    with here.write() as conn:
        states.set_flow_run_state(conn, None, run_id, states.make("Failed", ""))
    (one,) = [each for each in asked if "hook" in each[0]]
    if here.server.database.is_sqlite:
        with here.server.database.read() as conn:
            plan = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + one[0], one[1]).all()
        assert [row.detail for row in plan] == [
            "SEARCH cloud_hook USING INDEX ix_cloud_hook_tenant_id (tenant_id=?)"]


# A killed server, and an old database

SET = "mutation($input: set_flow_run_states_input!) { set_flow_run_states(input: $input) { states { status } } }"


def test_what_a_server_had_to_tell_arrives(tmp_path: Path, database_url: str, receiver: Receiver) -> None:
    """Ended before it sends, or killed at once after each answer, it sends when it is back; what comes twice is alike.
    """
    with opened(database_url) as made:  # a process that ends between the state and the sending
        made.hook(receiver.url)
        failed = [made.fail()]
    server = RunningServer(tmp_path, "--hooks-to", receiver.place, database=database_url)
    try:
        until(lambda: receiver.got, "it arrives", 90)
        assert [each["json"]["flow_run_id"] for each in receiver.got] == failed
        with as_client_of(server):
            space = Workspace(server, "default")
            hook(space)
            for _ in range(2):
                failed.append(space.run("a"))
                server.ask(SET, {"input": {"states": [
                    {"flow_run_id": failed[-1], "state": states.make("Failed", "killed")}]}})
                server.stop(signal.SIGKILL)
                server.start()
            until(lambda: {each["json"]["flow_run_id"] for each in receiver.got} == set(failed), "all arrive", 90)
            assert len({each["json"]["event_id"] for each in receiver.got}) == 3
            assert len(texts(space)) == 2
    finally:
        server.stop()


def test_what_was_under_way_is_sent_again(here: Here, receiver: Receiver) -> None:
    here.hook(receiver.url)
    here.fail()
    with here.write() as conn:  # as far as a server came that was killed then
        (taken,) = delivery._claim(conn, [row.id for row in here.all(tables.hook_delivery)])
    assert here.send() == 0
    (claimed,) = here.all(tables.hook_delivery)
    assert timestamps.now() < claimed.due <= timestamps.now(shift=delivery.LEASE)
    with here.write() as conn:  # the lease ends
        conn.execute(sa.update(tables.hook_delivery).values(due=timestamps.now()))
    assert here.send() == 1 and receiver.got[0]["json"]["event_id"] == taken.id


def test_database_of_the_version_before_gains_the_tables_and_no_web_hooks(tmp_path: Path, database_url: str) -> None:
    url = database_url if "://" in database_url else f"sqlite:///{database_url}"
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    new = {tables.cloud_hook, tables.hook_delivery, tables.message}
    with engine.begin() as conn:
        tables.metadata.create_all(conn, tables=[each for each in tables.metadata.sorted_tables if each not in new])
        conn.execute(sa.insert(tables.schema_version).values(version=1))
        conn.execute(sa.insert(tables.tenant).values(name="default", slug="default"))
        assert "cloud_hook" not in sa.inspect(conn).get_table_names()
    server = RunningServer(tmp_path, database=database_url)
    try:
        with as_client_of(server):
            space = Workspace(server, "default")
            hook(space)
            space.client.set_flow_run_state(space.run("a"), FAILED, version=1)
            assert len(texts(space)) == 1
            without_the_flag_no_web_hook_is_made(space)
    finally:
        server.stop()
    with engine.begin() as conn:
        assert conn.scalars(sa.select(tables.schema_version.c.version)).all() == [VERSION]
        indexes = {each["name"] for each in sa.inspect(conn).get_indexes("message")}
    engine.dispose()
    assert {"message_by_age", "message_unread"} <= indexes


def without_the_flag_no_web_hook_is_made(space: Workspace) -> None:
    before = space.rows("cloud_hook", "id")
    for kind in ("WEBHOOK", "SLACK_WEBHOOK"):
        problem = space.problem("create_cloud_hook", type=kind, states=["Failed"],
                                config={"url": "http://127.0.0.1:4200/"})
        assert "--hooks-to 127.0.0.1:4200" in problem and "\n" not in problem
    assert space.rows("cloud_hook", "id") == before


# Tenants apart

def test_tenants_see_nothing_of_each_others_hooks_and_messages(tmp_path: Path, receiver: Receiver) -> None:
    file = tmp_path / "keys.json"
    made = {name: api_keys.create(file, name) for name in ("Ada", "Bob")}
    server = RunningServer(tmp_path, "--api-keys", file, "--hooks-to", receiver.place)

    def ask(who: str, query: str, variables: dict | None = None) -> dict:
        return server.answer(query, variables, Authorization=f"Bearer {made[who]}")

    def do(who: str, mutation: str, **given: object) -> dict:
        asked = "id" if mutation.startswith("create") else "success"
        return ask(who, f"mutation($input: {mutation}_input!) {{ {mutation}(input: $input) {{ {asked} }} }}",
                   {"input": given})
    try:
        ids = {}
        for who in made:
            tenant = ask(who, "{tenant {id}}")["data"]["tenant"][0]["id"]
            project = do(who, "create_project", name="p", tenant_id=tenant)["data"]["create_project"]["id"]
            flow = do(who, "create_flow", project_id=project, serialized_flow=plain_flow("a").serialize())
            ids[who] = {"tenant": tenant, "flow": flow["data"]["create_flow"]["id"]}
        for kind in ("PREFECT_MESSAGE", "WEBHOOK"):  # Bob's, whatever tenant he names
            made_by_bob = do("Bob", "create_cloud_hook", type=kind, states=["Failed"], tenant_id=ids["Ada"]["tenant"],
                             config={"url": receiver.url})
            ids["Bob"][kind] = made_by_bob["data"]["create_cloud_hook"]["id"]
        for who in ("Ada", "Bob"):
            run = do(who, "create_flow_run", flow_id=ids[who]["flow"])["data"]["create_flow_run"]["id"]
            ids[who]["run"] = run
            ask(who, SET, {"input": {"states": [{"flow_run_id": run, "state": states.make("Failed", who)}]}})
        until(lambda: receiver.got, "Bob's web hook arrives", 20)
        assert [each["json"]["flow_run_id"] for each in receiver.got] == [ids["Bob"]["run"]]
        mine = ask("Bob", "{cloud_hook {id config} message {id content}}")["data"]
        assert len(mine["cloud_hook"]) == 2 and [row["content"]["flow_run_id"] for row in mine["message"]] == [
            ids["Bob"]["run"]]
        message, web = mine["message"][0]["id"], ids["Bob"]["WEBHOOK"]
        assert ask("Ada", "{cloud_hook {id} message {id} cloud_hook_aggregate {aggregate {count}} "
                   "message_aggregate {aggregate {count}}}")["data"] == {
            "cloud_hook": [], "message": [], "cloud_hook_aggregate": {"aggregate": {"count": 0}},
            "message_aggregate": {"aggregate": {"count": 0}}}
        assert ask("Ada", f'{{cloud_hook_by_pk(id: "{web}") {{config}}}}')["data"] == {"cloud_hook_by_pk": None}
        (group,) = ask("Bob", "{flow_group {id name}}")["data"]["flow_group"]
        attempts = [(name, {"cloud_hook_id": web}) for name in (
            "delete_cloud_hook", "set_cloud_hook_active", "set_cloud_hook_inactive", "test_cloud_hook")]
        attempts += [(name, {"message_id": message}) for name in (
            "mark_message_as_read", "mark_message_as_unread", "delete_message")]
        attempts += [("create_cloud_hook", {"type": "PREFECT_MESSAGE", "states": ["Failed"], **its}) for its in (
            {"flow_group_id": group["id"]}, {"version_group_id": group["name"]})]
        for name, given in attempts:
            assert "not found" in do("Ada", name, **given)["errors"][0]["message"], name
        assert ask("Bob", "{cloud_hook {active} message {read}}")["data"] == {
            "cloud_hook": [{"active": True}] * 2, "message": [{"read": False}]}
        assert "hush" not in server.said()
    finally:
        server.stop()
