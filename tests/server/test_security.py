"""Each line of what the server promises about security: what is refused, that it says so, and that it lives on."""

import ast
import asyncio
import base64
import gzip
import http.client
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from graphql import get_introspection_query, parse
from starlette.types import Receive, Scope, Send

from harness import HOME, PATIENCE, RunningServer, free_port
from workshop_server import api_keys
from workshop_server.__main__ import main
from workshop_server.context import ServerContext
from workshop_server.errors import RequestError, StartError, UnauthenticatedError
from workshop_server.graph import query_limits
from workshop_server.http import untrusted_requests, uvicorn_protocol
from workshop_server.settings import Limits, Settings
from workshop_server.store.database import Database

HELLO = json.dumps({"query": "{hello}"}).encode()
JSON = {"Content-Type": "application/json"}
JSON_HEADER = {"Content_Type": "application/json"}
SOURCES = sorted((HOME / "workshop_server").rglob("*.py"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on loopback that asks for no keys."""
    running = RunningServer(tmp_path_factory.mktemp("plain"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks for a key; its `key` is a good one."""
    home = tmp_path_factory.mktemp("keyed")
    key = api_keys.create(home / "keys.json", "Ada")
    running = RunningServer(home, "--api-keys", home / "keys.json", key=key)
    yield running
    running.stop()


def ask(port: int, method: str = "POST", path: str = "/", body: object = HELLO, *, chunked: bool = False,
        **headers: str) -> tuple[int, dict[str, str], str]:
    """One request, with exactly these headers; status, headers and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
    for name, text in named.items():
        connection.putheader(name, text)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif method != "GET":
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(None if method == "GET" else body, encode_chunked=chunked)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read().decode()
    connection.close()
    return found


def as_json(port: int, **headers: str) -> tuple[int, str]:
    status, _, text = ask(port, Content_Type="application/json", **headers)
    return status, text


# addresses

def test_listens_on_loopback_alone(plain: RunningServer) -> None:
    for port in (plain.port, plain.ui_port):
        with pytest.raises(OSError):  # were it every address of the machine, this one would answer
            socket.create_connection(("127.0.0.2", port), timeout=2)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "workshop.example", ""])
def test_other_address_needs_keys(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", host, "--port", "1", "--database", str(tmp_path / "x.sqlite")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "create-key" in said
    assert not (tmp_path / "x.sqlite").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_own_address_needs_no_keys(host: str) -> None:
    untrusted_requests.check_exposure(Settings(host=host))


def test_other_address_with_keys_may_start() -> None:
    untrusted_requests.check_exposure(Settings(host="0.0.0.0", api_keys=Path("keys.json")))


# what a page in a browser could send

@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                                  "text/plain; application/json", "application/jsonp"])
def test_api_reads_json_alone(plain: RunningServer, kind: str | None) -> None:
    status, _, text = ask(plain.port, **({"Content_Type": kind} if kind else {}))
    assert (status, "application/json" in text) == (415, True)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_api_reads_json(plain: RunningServer, kind: str) -> None:
    assert ask(plain.port, Content_Type=kind)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4200", "localhost.evil.example", "192.0.2.7",
                                  "127.0.0.1.evil.example", "[::2]", "", "127.0.0.1@evil.example", "localhost:4200:80"])
def test_other_hosts_are_refused(plain: RunningServer, host: str) -> None:
    for port in (plain.port, plain.ui_port):
        for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/")):
            status, _, text = ask(port, method, path, Host=host, **JSON_HEADER)
            assert (status, len(text.splitlines())) == (421, 1), (method, path)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:80", "[::1]:4200",
                                  "localhost."])
def test_own_hosts_are_served(plain: RunningServer, host: str) -> None:
    assert as_json(plain.port, Host=host)[0] == 200
    assert ask(plain.ui_port, "GET", "/", Host=host)[0] < 400


FOREIGN = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:3000"},
           {"Origin": "http://127.0.0.1"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
           {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"}, {"Origin": ""}]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_pages_of_others_cannot_drive_it(plain: RunningServer, headers: dict) -> None:
    for port in (plain.port, plain.ui_port):
        status, found, _ = ask(port, **JSON_HEADER, **headers)
        assert status == 403
        assert not [name for name in found if name.startswith("access-control-")]


def test_page_of_its_own_may_send(plain: RunningServer) -> None:
    own = f"127.0.0.1:{plain.port}"
    assert as_json(plain.port, Origin=f"http://{own}")[0] == 200
    assert as_json(plain.port, Sec_Fetch_Site="same-origin")[0] == 200
    assert as_json(plain.port, Origin=f"http://{own}", Sec_Fetch_Site="same-origin")[0] == 200


def test_form_has_to_say_where_it_comes_from(plain: RunningServer) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert ask(plain.ui_port, path="/default", body=b"", **form)[0] == 403
    assert ask(plain.ui_port, path="/default", body=b"", Sec_Fetch_Site="same-origin", **form)[0] not in (403, 421)


def test_no_other_origin_may_read(plain: RunningServer) -> None:
    foreign = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST",
               "Access_Control_Request_Headers": "content-type"}
    for port in (plain.port, plain.ui_port):
        for method in ("OPTIONS", "GET"):
            status, found, _ = ask(port, method, **foreign)
            assert method == "GET" or status >= 400
            assert not [name for name in found if name.startswith("access-control-")]


def test_pages_carry_security_headers(plain: RunningServer) -> None:
    for path in ("/default", "/nowhere", "/static/nothing.css"):
        found = ask(plain.ui_port, "GET", path)[1]
        policy = found["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "same-origin"
        assert "server" not in found


def test_header_that_is_there_twice_is_refused(plain: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), timeout=PATIENCE) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert _all(raw).startswith(b"HTTP/1.1 400 ")


def test_an_upgrade_is_not_taken(plain: RunningServer) -> None:
    status, _, _ = ask(plain.port, "GET", "/health", Connection="Upgrade", Upgrade="websocket",
                       Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", Sec_WebSocket_Version="13")
    assert status != 101


async def _ok(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(("host", "names", "asked", "status"), [
    ("0.0.0.0", (), "192.0.2.7:8080", 200), ("0.0.0.0", (), "[2001:db8::1]:8080", 200), ("::", (), "192.0.2.7", 200),
    ("0.0.0.0", (), "evil.example", 421), ("0.0.0.0", (), "192.0.2.7.evil.example", 421),
    ("0.0.0.0", ("Lab.Example",), "lab.example:8080", 200), ("workshop.example", (), "workshop.example", 200),
    ("127.0.0.1", (), "192.0.2.7", 421), ("127.0.0.1", ("hub.example",), "hub.example", 200),
    ("0.0.0.0", (), f"{socket.gethostname()}.local", 200),
])
def test_names_of_a_server_for_the_room(host: str, names: tuple[str, ...], asked: str, status: int) -> None:
    app = untrusted_requests.protect_api(_ok, ServerContext(Settings(host=host, name=names), None))
    assert _status(app, {"type": "http", "method": "GET", "headers": [(b"host", asked.encode())]}) == status


def _status(app: object, scope: Scope) -> int:
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)
    asyncio.run(app(scope, None, send))
    return sent[0]["status"]


# sizes

LARGE = 33 * 2**20


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit_is_refused(plain: RunningServer, chunked: bool) -> None:
    body = (b"x" * 2**20 for _ in range(33)) if chunked else b"x" * LARGE
    status, _, text = ask(plain.port, body=body, chunked=chunked, **JSON_HEADER)
    assert (status, "32 MB" in json.loads(text)["errors"][0]["message"]) == (413, True)
    assert plain.ask("{hello}")


def test_connection_serves_on_after_a_large_body(plain: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=PATIENCE)
    for body, status in ((b"x" * LARGE, 413), (HELLO, 200)):
        connection.request("POST", "/", body, JSON)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


def test_much_too_large_body_is_not_waited_for(plain: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), timeout=PATIENCE) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 1000000000000\r\n\r\n")
        assert _all(raw).startswith(b"HTTP/1.1 413 ")


def test_body_just_below_the_limit_is_read(plain: RunningServer) -> None:
    body = json.dumps({"query": "query($x: jsonb) {hello}", "variables": {"x": "x" * (31 * 2**20)}}).encode()
    assert ask(plain.port, body=body, **JSON_HEADER)[0] in (200, 400)  # not 413: it is told that $x has no use


def test_packed_flow_cannot_unfold_beyond_the_limit(plain: RunningServer) -> None:
    project = plain.ask('mutation{create_project(input:{name:"bomb"}){id}}')["create_project"]["id"]
    bomb = base64.b64encode(gzip.compress(b"[" + b" " * LARGE + b"]")).decode()
    answer = plain.answer("mutation($input: create_flow_from_compressed_string_input!)"
                          "{create_flow_from_compressed_string(input: $input){id}}",
                          {"input": {"project_id": project, "serialized_flow": bomb}})
    assert answer["errors"][0]["extensions"]["code"] != "INTERNAL_SERVER_ERROR"
    assert plain.ask("{hello}")


# slow and endless connections

@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that soon gives up a connection; its port."""
    monkeypatch.setattr(uvicorn_protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(untrusted_requests, "BODY_SECONDS", 0.3)
    app = untrusted_requests.protect_api(_ok, ServerContext(Settings(limits=Limits(body=1000)), None))
    options = uvicorn_protocol.OPTIONS | {"timeout_keep_alive": 1}
    running = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", **options))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join(PATIENCE)
    listener.close()


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(("sent", "answer"), [
    (b"", b""), (b"\r\n", b""), (b"POST / HT", b""), (HEAD, b""), (HEAD + b"\r\n12", b"HTTP/1.1 408 "),
    (HEAD + b"\r\n12345", b"HTTP/1.1 200 "), (HEAD + b"\r\n12345\r\n", b"HTTP/1.1 200 "),
])
def test_idle_connection_is_closed(hasty: int, sent: bytes, answer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty), timeout=PATIENCE) as raw:
        raw.sendall(sent)
        assert _all(raw)[:13] == answer  # what comes after is the end, not a time-out of this socket


def test_endless_headers_are_cut_off(hasty: int) -> None:
    with socket.create_connection(("127.0.0.1", hasty), timeout=PATIENCE) as raw, pytest.raises(OSError):
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(1000):
            raw.sendall(b"x" * 2**16)


def test_large_body_after_a_refusal_is_read_to_its_end(hasty: int) -> None:
    with socket.create_connection(("127.0.0.1", hasty), timeout=PATIENCE) as raw:
        for _ in range(2):
            raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n" + b"x" * 900)
            answer = http.client.HTTPResponse(raw)
            answer.begin()
            assert (answer.status, b"JSON" in answer.read()) == (415, True)


def _all(raw: socket.socket) -> bytes:
    parts = []
    while part := raw.recv(2**16):
        parts.append(part)
    return b"".join(parts)


# queries

def bomb(count: int) -> str:
    """Each fragment holds the next one twice: 2**count fields, of a query that is short."""
    spread = " ".join(f"fragment F{i} on flow {{...F{i + 1} ...F{i + 1}}}" for i in range(count))
    return f"{{flow {{...F0}}}} {spread} fragment F{count} on flow {{id name}}"


COSTLY = {
    "deep": "{" + "flow {project {" * 8 + "id" + "}}" * 8 + "}",
    "deep in fragments": "{flow {...F0}} " + " ".join(
        f"fragment F{i} on flow {{project {{tenant {{...F{i + 1}}}}}}}" for i in range(12)
        ) + "fragment F12 on flow {id}",
    "bomb": bomb(30),
    "circle": "{flow {...A}} fragment A on flow {id ...B} fragment B on flow {...A}",
    "circle of one": "{flow {...A}} fragment A on flow {...A}",
    "lists in themselves": "{flow_run {task_runs {flow_run {task_runs {id}}}}}",
    "aliases": "{" + " ".join(f"a{i}: flow_run {{id}}" for i in range(100)) + "}",
    "aliased lists": "{flow_run {" + " ".join(f"a{i}: logs {{message}}" for i in range(100)) + "}}",
    "fields": "{flow {" + "id " * 1000 + "}}",
    "fragments": "{flow {" + " ".join(f"...F{i}" for i in range(100)) + "}} " + " ".join(
        f"fragment F{i} on flow {{id}}" for i in range(100)),
    "argument": "{flow(where: " + "{_and: [" * 60 + "]}" * 60 + ") {id}}",
    "introspection": "{__schema {types {" + "fields {type {" * 5 + "name" + "}}" * 5 + "}}}",
    "tokens": "{flow(where: {id: {_in: [" + '"x" ' * 30_000 + "]}}) {id}}",
    "braces": "{a" * 100_000,
    "comments": "#\n" * 100_000 + "{hello}",
    "brackets in an argument": "{flow(where: " + "[" * 50_000 + ") {id}}",
}


@pytest.mark.parametrize("query", COSTLY.values(), ids=COSTLY)
def test_costly_query_is_refused(plain: RunningServer, query: str) -> None:
    answer = plain.answer(query)
    assert answer.get("data") is None
    assert answer["errors"][0]["message"]
    assert answer.get("status", 200) in (200, 400)  # Prefect's client would send it again after a 5xx
    assert plain.ask("{hello}")
    assert "Traceback" not in plain.said()


@pytest.mark.parametrize("variables", [{"where": {"id": {"_in": ["x"] * 30_000}}}, "deep"], ids=["many", "deep"])
def test_costly_variables_are_refused(plain: RunningServer, variables: object) -> None:
    query = "query($where: flow_bool_exp) {flow(where: $where) {id}}"
    assert plain.ask(query, {"where": {}}) == {"flow": []}  # the same query is fine
    if variables == "deep":
        variables = {"where": {}}
        for _ in range(60):
            variables = {"where": {"_and": [variables["where"]]}}
    answer = plain.answer(query, variables)
    assert "the variables" in answer["errors"][0]["message"]


def test_queries_that_look_alike_are_judged_apart(plain: RunningServer) -> None:
    assert plain.ask('{hello #"x"\n}')
    answer = plain.answer('{hello #"\r nothing #"\n}')  # a carriage return ends a comment, and no string
    assert "Cannot query field 'nothing'" in answer["errors"][0]["message"]


def test_quotes_without_end_are_read_once(plain: RunningServer) -> None:
    quotes = '\\"' * 400_000
    assert plain.answer('{hello #"' + quotes)["errors"]  # a search for the end from each would take hours
    assert "longer" in plain.answer("{hello}" + " " * 2**21)["errors"][0]["message"]


@pytest.mark.parametrize("query", [
    "{project {flows {flow_runs {task_runs {states {state}}}}}}", get_introspection_query(),
    "{flow(where: {_and: {name: {_eq: null}}}) {tasks {name upstream_edges {upstream_task {name}}}}}",
    "{flow_run(where: {id: {_nin: [" + '"x" ' * 5000 + "]}}) {id}}",
])
def test_what_is_usual_is_not_costly(query: str) -> None:
    query_limits.check(parse(query), Limits(), {})


def test_flow_in_a_mutation_is_not_costly() -> None:
    query_limits.check_variables(parse("mutation($input: x) {create_flow(input: $input) {id}}"), {"x": [[]] * 100_000})


def test_bomb_is_judged_in_no_time() -> None:
    with pytest.raises(RequestError, match="fields"):
        query_limits.check(parse(bomb(38)), Limits(), {})  # to count one by one, it would take hours


# wrong keys

def test_wrong_keys_are_refused_and_good_ones_are_not(keyed: RunningServer) -> None:
    said = []
    for number in range(30):
        answer = keyed.answer("{hello}", Authorization=f"Bearer wrong{number}")
        said.append(answer["errors"][0]["message"])
        assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert "status" not in answer  # Prefect's client sleeps after a 429, and gives no reason after a 401
    assert "not known" in said[0] and "wait" in said[-1]
    assert keyed.ask("{hello}")  # another in the same room
    assert keyed.said().count("wrong API keys") == 1


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer \xff\xfe",
                                    "Bearer " + "x" * 9000])
def test_request_without_a_key_is_refused(keyed: RunningServer, header: str | None) -> None:
    status, text = as_json(keyed.port, **({"Authorization": header} if header is not None else {}))
    assert (status, json.loads(text)["errors"][0]["extensions"]["code"]) == (200, "UNAUTHENTICATED")


def test_refused_before_its_body_is_looked_at(keyed: RunningServer) -> None:
    status, _, text = ask(keyed.port, body=b"x" * (8 * 2**20), **JSON_HEADER)
    assert (status, "UNAUTHENTICATED" in text) == (200, True)


def test_health_needs_no_key(keyed: RunningServer) -> None:
    assert ask(keyed.port, "GET", "/health")[0] == 200


def test_pages_need_a_key(keyed: RunningServer) -> None:
    for path in ("/", "/ada", "/default", "/ada/api"):
        status, _, text = ask(keyed.ui_port, "GET", path)
        assert status in (303, 401) and "Ada" not in text


def test_name_of_a_tenant_opens_no_page(keyed: RunningServer) -> None:
    for name in ("Healthcare", "Login desk", "Static", "health", "login"):
        api_keys.create(keyed.home / "keys.json", name)
    for slug in ("healthcare", "login-desk", "static", "health", "login"):
        for path in (f"/{slug}", f"/{slug}/agents", f"/{slug}/api"):
            _, _, text = ask(keyed.ui_port, "GET", path)
            assert "Healthcare" not in text and "Login desk" not in text, path


def test_memory_for_wrong_keys_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "ADDRESSES", 50)
    file = tmp_path / "keys.json"
    good = api_keys.create(file, "Ada")
    known = api_keys.ApiKeys(file, Database(str(tmp_path / "x.sqlite")))
    for number in range(1000):
        with pytest.raises(UnauthenticatedError):
            known.admit(f"wrong{number}", f"192.0.2.{number}")
    assert len(known._wrong) == 50
    assert known.admit(good, "192.0.2.999")


# the key file

def test_key_is_shown_once_and_kept_as_a_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sub" / "keys.json"
    done = subprocess.run([sys.executable, "-m", "workshop_server", "create-key", "李", "--api-keys", str(file)],
                          cwd=HOME, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0
    shown = [done.stdout.strip()]
    for name in ("Ada Lovelace", "Grace"):
        assert main(["create-key", name, "--api-keys", str(file)]) == 0
        shown.append(capsys.readouterr().out.strip())
    assert len(set(shown)) == 3 and all(len(key) >= 43 for key in shown)
    text = file.read_text()
    assert not [key for key in shown if key in text or key[-20:] in text]
    assert '"ada-lovelace"' in text
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_no_tenant_takes_an_address_of_the_pages(tmp_path):
    for name in ("Login", "static", "GraphQL"):
        api_keys.create(tmp_path / "keys.json", name)
    slugs = {entry["slug"] for entry in json.loads((tmp_path / "keys.json").read_text())["keys"]}
    assert slugs == {"login-tenant", "static-tenant", "graphql-tenant"}


def test_name_has_one_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.json"
    assert main(["create-key", "Ada", "--api-keys", str(file)]) == 0
    before = file.read_bytes()
    capsys.readouterr()
    assert main(["create-key", "ada", "--api-keys", str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "two\nlines", "\x1b[31m"])
def test_name_of_a_key_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartError, match="name"):
        api_keys.create(tmp_path / "keys.json", name)


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    threads = [threading.Thread(target=api_keys.create, args=(file, f"attendee {i}")) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(file.read_text())["keys"]) == 20


def test_key_file_that_cannot_be_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys.json"
    api_keys.create(file, "Ada")
    before = file.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(api_keys.os, "fsync", full)
    with pytest.raises(StartError, match="No space left"):
        api_keys.create(file, "Grace")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"keys": 5}', '{"keys": [{"id": "x"}]}', "[" * 100_000,
                                  '{"keys": [{"id":1,"name":2,"slug":3,"sha256":4,"created":5}]}', "\x00\xff"])
def test_key_file_that_is_none_is_one_line(tmp_path: Path, text: str | None,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.json"
    if text is not None:
        file.write_text(text, encoding="latin-1")
    assert main(["--api-keys", str(file), "--database", str(tmp_path / "x.sqlite"), "--port", str(free_port()),
                 "--ui-port", str(free_port())]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "keys.json" in said
    with pytest.raises(StartError, match=r"keys\.json"):
        api_keys.ApiKeys(file, None)


def test_keys_added_and_taken_away_while_it_runs(keyed: RunningServer) -> None:
    file = keyed.home / "keys.json"
    key = api_keys.create(file, "Newcomer")
    assert keyed.ask("{hello}", Authorization=f"Bearer {key}")
    whole = file.read_text()
    file.write_text(json.dumps({"keys": json.loads(whole)["keys"][:-1]}))
    assert keyed.answer("{hello}", Authorization=f"Bearer {key}")["errors"]
    file.write_text("damaged")
    assert keyed.ask("{hello}")  # those who have a key are not shut out by a slip of the editor
    assert "read last stay good" in keyed.said()
    file.write_text(whole)


# what is stored is data

class Trap:
    """Once unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return Path.touch, (self.file,)


def test_nothing_stored_is_run(plain: RunningServer, tmp_path: Path) -> None:
    trap = base64.b64encode(pickle.dumps(Trap(tmp_path / "sprung"))).decode()
    flow = {"name": "trap", "type": "prefect.core.flow.Flow", "parameters": [], "tasks": [{
        "slug": "t-1", "name": trap, "type": "os.system", "tags": [], "__version__": "1.4.1"}], "edges": [],
        "storage": {"type": "Local", "stored_as_script": False, "flows": {"trap": trap}, "secrets": []},
        "run_config": {"type": "LocalRun", "labels": [], "env": {"X": "__import__('os')"}}, "__version__": "1.4.1"}
    project = plain.ask('mutation{create_project(input:{name:"traps"}){id}}')["create_project"]["id"]
    flow_id = plain.ask("mutation($input: create_flow_input!){create_flow(input: $input){id}}",
                        {"input": {"project_id": project, "serialized_flow": flow}})["create_flow"]["id"]
    run = plain.ask("mutation($input: create_flow_run_input!){create_flow_run(input: $input){id}}",
                    {"input": {"flow_id": flow_id, "parameters": {"x": trap}}})["create_flow_run"]["id"]
    state = {"type": "Success", "message": "", "_result": {"type": "SafeResult", "value": trap}, "__version__": "1.4.1"}
    plain.ask("mutation($input: set_flow_run_states_input!){set_flow_run_states(input: $input){states{id}}}",
              {"input": {"states": [{"flow_run_id": run, "state": state}]}})
    for page in (f"/default/flow-run/{run}", f"/default/flow/{flow_id}"):
        assert ask(plain.ui_port, "GET", page)[0] in (200, 303, 307)
    assert not (tmp_path / "sprung").exists()


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """The syntax of all files of the server, with `file:line`."""
    assert len(SOURCES) > 50
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(HOME)}:{getattr(node, 'lineno', 0)}", node


def test_source_has_no_way_to_run_data() -> None:
    modules = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "prefect", "distributed", "yaml"}
    found = []
    for place, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"{place} imports {name}" for name in names if name.partition(".")[0] in modules]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [place] if node.func.id in ("eval", "exec", "compile", "__import__") else []
    assert found == []


def test_source_puts_no_values_into_sql() -> None:
    found = []
    for place, node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if name in ("exec_driver_sql", "literal_column") or (name == "text" and owner in ("sa", "sqlalchemy")):
                is_apart = name == "exec_driver_sql" and len(node.args) == 2  # text, and its parameters
                found += [] if is_apart or isinstance(node.args[0], ast.Constant) else [place]
    assert found == []


HOSTILE = ["'; DROP TABLE flow; --", '" OR 1=1 --', "%", "%s%(x)s:y?", "_", "\\", "*[", "x' UNION SELECT 1",
           "\u202e"]
CREATE = "mutation($input: create_project_input!){create_project(input: $input){id}}"
TESTS = ["{name: {_eq: $x}}", "{name: {_in: [$x]}}", "{name: {_in: [$x, $x]}}", "{_not: {name: {_neq: $x}}}",
         "{name: {_nin: []}, _and: {name: {_eq: $x}}}", "{_and: [{name: {_gte: $x}}, {name: {_lte: $x}}]}"]


def test_text_stays_text_in_sql(shared_either: RunningServer) -> None:
    before = {each["id"] for each in shared_either.ask("{project{id}}")["project"]}
    made = {text: shared_either.ask(CREATE, {"input": {"name": text, "description": text}})["create_project"]["id"]
            for text in HOSTILE}
    for text, own in made.items():
        for test in TESTS:
            found = shared_either.ask(f"query($x: String!){{project(where: {test}){{id}}}}", {"x": text})["project"]
            assert [each["id"] for each in found] == [own], (test, text)
            literal = test.replace("$x", json.dumps(text))
            found = shared_either.ask(f"{{project(where: {literal}){{id}}}}")["project"]
            assert [each["id"] for each in found] == [own], (test, text)
        for test in ("_like", "_ilike", "_nlike", "_nilike"):
            shared_either.ask(f"query($x: String!){{project(where: {{name: {{{test}: $x}}}}){{id}}}}", {"x": text})
        for test in ("_eq", "_neq", "_contains", "_contained_in"):
            shared_either.ask(f"query($x: jsonb!){{flow(where: {{storage: {{{test}: $x}}}}){{id}}}}", {"x": [text]})
        shared_either.ask("query($x: String!){flow_group(where: {labels: {_has_key: $x}}){id}}", {"x": text})
        assert shared_either.answer("query($x: String!){flow_group{settings(path: $x)}}", {"x": text})
        for argument in ("order_by: {name: $x}", "distinct_on: $x", "limit: $x", "order_by: $x"):
            assert shared_either.answer(f"query($x: String!){{project({argument}){{id}}}}", {"x": text})["errors"]
        assert ask(shared_either.ui_port, "GET", f"/{quote(text, safe='')}")[0] == 404
        assert ask(shared_either.ui_port, "GET", f"/default?project={quote(text, safe='')}")[0] < 500
    kept = {each["id"] for each in shared_either.ask("{project{id}}")["project"]}
    assert kept == before | set(made.values())


@pytest.mark.parametrize("text", ["nul \x00 nul", "half \ud800"])
def test_text_that_no_database_holds_is_no_failure(shared_either: RunningServer, text: str) -> None:
    asked = "query($x: String!){project(where: {name: {_eq: $x}}){id}}"
    for answer in (shared_either.answer(CREATE, {"input": {"name": text}}), shared_either.answer(asked, {"x": text})):
        assert answer.get("status", 200) in (200, 400)
    assert shared_either.ask("{hello}")
    assert "Traceback" not in shared_either.said()


def test_logger_of_the_guard_tells_a_strange_host_once(caplog: pytest.LogCaptureFixture) -> None:
    app = untrusted_requests.protect_api(_ok, ServerContext(Settings(), None))
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            _status(app, {"type": "http", "method": "GET", "headers": [(b"host", b"evil.example")]})
    assert len(caplog.records) == 1
