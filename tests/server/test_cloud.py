"""What Prefect had in its Cloud alone, through its unmodified command line and client; and tenants kept apart."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from graphql import GraphQLInputObjectType, get_named_type

from harness import Agent, RunningServer, until
from workshop_server import api_keys
from workshop_server.graph.schema import SCHEMA

FLOW = """
import prefect
from prefect import Flow, task
from prefect.client import Secret
from prefect.backend import get_key_value

@task
def told():
    prefect.context.get("logger").info("the secret has %d letters, the slide is %s",
                                       len(Secret("TOKEN").get()), get_key_value("of the run"))

with Flow("secretive") as flow:
    told()
"""


class Attendee:
    """Someone with a key, a home and a terminal of their own."""

    def __init__(self, server: RunningServer, home: Path, name: str) -> None:
        self.server, self.home = server, home
        self.key = api_keys.create(server.home / "keys.json", name)
        home.mkdir()
        drop = {"PREFECT__BACKEND", "PREFECT__CLOUD__API_KEY"}  # what `backend cloud` and `auth login` are to set
        self.environment = {name: text for name, text in server.environment(home).items() if name not in drop}

    def prefect(self, *arguments: str, fails: bool = False) -> str:
        """What a command of Prefect's prints."""
        done = subprocess.run([Path(sys.executable).parent / "prefect", *arguments], cwd=self.home, capture_output=True,
                              env=self.environment, text=True, timeout=120, check=False)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def python(self, script: str) -> str:
        done = subprocess.run([sys.executable, "-c", script], cwd=self.home, env=self.environment, capture_output=True,
                              text=True, timeout=120, check=False)
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    def log_in(self) -> str:
        return self.prefect("backend", "cloud") + self.prefect("auth", "login", "--key", self.key)

    def ask(self, query: str, variables: dict | None = None, **headers: str) -> dict:
        return self.server.ask(query, variables, Authorization=f"Bearer {self.key}", **headers)

    def answer(self, query: str, variables: dict | None = None, **headers: str) -> dict:
        return self.server.answer(query, variables, Authorization=f"Bearer {self.key}", **headers)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks for keys."""
    home = tmp_path_factory.mktemp("room")
    api_keys.create(home / "keys.json", "the instructor")
    running = RunningServer(home, "--api-keys", home / "keys.json")
    yield running
    running.stop()


@pytest.fixture
def ada(room: RunningServer, tmp_path: Path) -> Attendee:
    return Attendee(room, tmp_path / "ada", f"Ada {uuid4().hex[:6]}")


@pytest.fixture(scope="module")
def ada_at_work(room: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Attendee:
    """An Ada who has logged in, for the tests that need no tenant of their own; what was said to her is in `said`."""
    found = Attendee(room, tmp_path_factory.mktemp("homes") / "ada", f"Ada {uuid4().hex[:6]}")
    found.said = found.log_in()
    found.environment["PREFECT__CLOUD__USE_LOCAL_SECRETS"] = "false"
    return found


@pytest.fixture
def grace(room: RunningServer, tmp_path: Path) -> Attendee:
    return Attendee(room, tmp_path / "grace", f"Grace {uuid4().hex[:6]}")


def test_the_commands_of_the_workshop(ada_at_work: Attendee) -> None:
    ada = ada_at_work
    assert "Backend switched to cloud" in ada.said and "Logged in to Prefect Cloud tenant 'Ada " in ada.said
    listed = ada.prefect("auth", "list-tenants").splitlines()
    assert len(listed) == 2 and re.search(r"ada-\w+ .*\*$", listed[1])
    assert "Hello, World! created" in ada.prefect("create", "project", "Hello, World!")
    assert "already exists" in ada.prefect("create", "project", "Hello, World!", "--skip-if-exists")
    assert "Hello, World!" in ada.prefect("get", "projects")


def test_wrong_key_is_told_at_once(ada: Attendee) -> None:
    ada.prefect("backend", "cloud")
    assert "Unauthorized. Invalid Prefect Cloud API key." in ada.prefect("auth", "login", "--key", "wrong", fails=True)
    assert "not authenticated" in ada.prefect("auth", "list-tenants", fails=True)


def test_switching_tenants(ada_at_work: Attendee, grace: Attendee) -> None:
    ada = ada_at_work
    own, other = (each.ask("{auth_info{tenant_id} tenant{id slug}}") for each in (ada, grace))
    assert own["tenant"] == [{"id": own["auth_info"]["tenant_id"], "slug": own["tenant"][0]["slug"]}]
    assert "switched" in ada.prefect("auth", "switch-tenants", "--slug", own["tenant"][0]["slug"])
    assert "default tenant" in ada.prefect("auth", "switch-tenants", "--default")
    hers = other["tenant"][0]["slug"]
    assert ada.ask(f'{{tenant(where: {{slug: {{_eq: "{hers}"}}}}){{id}}}}') == {"tenant": []}
    assert "not valid for that tenant" in ada.prefect("auth", "switch-tenants", "--id", other["tenant"][0]["id"],
                                                      fails=True)
    assert "You are logged in to tenant" in ada.prefect("auth", "status")


def test_key_value_store(ada_at_work: Attendee) -> None:
    ada = ada_at_work
    assert "No keys found" in ada.prefect("kv", "list")
    assert "set successfully" in ada.prefect("kv", "set", "slide", "CMU-1")
    assert "'slide' has value 'CMU-1'" in ada.prefect("kv", "get", "slide")
    assert ada.prefect("kv", "list").split() == ["slide"]
    assert "deleted" in ada.prefect("kv", "delete", "slide")
    assert "Error retrieving value" in ada.prefect("kv", "get", "slide", fails=True)


@pytest.mark.parametrize("value", [None, True, 2, 1.5, 1.0, 2**63, "", "ü", [1, [2]], {"a": {"b": None}}])
def test_any_value_comes_back_as_it_was(ada: Attendee, value: object) -> None:
    for each in ("the one before", value, value):
        ada.ask("mutation($input: set_key_value_input!){set_key_value(input: $input){id}}",
                {"input": {"key": "k", "value": each}})
        ada.ask("mutation($input: set_secret_input!){set_secret(input: $input){success}}",
                {"input": {"name": "s", "value": each}})
    found = ada.ask('{key_value(where: {key: {_eq: "k"}}){value} secret_value(name: "s")}')
    assert repr(found) == repr({"key_value": [{"value": value}], "secret_value": value})  # repr tells 1.0 from 1


def test_large_value_is_refused(ada: Attendee) -> None:
    answer = ada.answer("mutation($input: set_key_value_input!){set_key_value(input: $input){id}}",
                        {"input": {"key": "k", "value": "x" * 10_001}})
    assert "10 kB" in answer["errors"][0]["message"]


def test_secrets_by_the_client(ada_at_work: Attendee) -> None:
    ada, word = ada_at_work, uuid4().hex
    said = ada.python(f"""
from prefect import Client
from prefect.client import Secret
Client().set_secret("TOKEN", "old")
Client().set_secret("TOKEN", {{"word": "{word}"}})
print(Secret("TOKEN").get()["word"], Secret("TOKEN").exists(), Secret("OTHER").exists())
try:
    Secret("OTHER").get()
except KeyError as error:
    print(error)
""")
    assert said.startswith(f"{word} True False\n") and "The secret OTHER was not found" in said
    assert word not in ada.server.said()
    ada.ask('mutation{delete_secret(input: {name: "TOKEN"}){success}}')
    assert ada.ask("{secret_names}") == {"secret_names": []}


def test_limits_of_concurrent_tasks_by_the_client(ada_at_work: Attendee) -> None:
    ada = ada_at_work
    assert ada.python("""
from prefect import Client
client = Client()
client.update_task_tag_limit("gpu", 2)
client.update_task_tag_limit("gpu", 1)
print(client.get_task_tag_limit("gpu"), client.get_task_tag_limit("cpu"))
limit = client.graphql("{task_tag_limit{id}}").data.task_tag_limit[0].id
print(client.delete_task_tag_limit(limit))
""") == "1 None\nNone"
    assert ada.ask("{task_tag_limit{id}}") == {"task_tag_limit": []}


def test_keys_of_ones_own(ada_at_work: Attendee, grace: Attendee) -> None:
    ada = ada_at_work
    second = ada.prefect("auth", "create-key", "--name", "laptop", "--quiet").strip()
    past = ada.prefect("auth", "create-key", "--name", "soon", "--expire", "2999-01-01", "--quiet").strip()
    assert ada.server.ask("{tenant{slug}}", Authorization=f"Bearer {second}") == ada.ask("{tenant{slug}}")
    listed = ada.prefect("auth", "list-keys")
    assert "laptop" in listed and "2999" in listed and second not in listed
    rows = {row["name"]: row["id"] for row in ada.ask("{auth_api_key{id name}}")["auth_api_key"]}
    assert len(rows) == 3 and len(grace.ask("{auth_api_key{id}}")["auth_api_key"]) == 1
    revoke = "mutation($input: delete_api_key_input!){delete_api_key(input: $input){success}}"
    assert "not found" in grace.answer(revoke, {"input": {"key_id": rows["laptop"]}})["errors"][0]["message"]
    assert "revoked" in ada.prefect("auth", "revoke-key", "--id", rows["laptop"])
    assert ada.server.answer("{hello}", Authorization=f"Bearer {second}")["errors"]
    _let_expire(ada.server.home / "keys.json", "soon")
    assert ada.server.answer("{hello}", Authorization=f"Bearer {past}")["errors"]
    assert ada.ask("{hello}")
    for _ in range(api_keys.KEYS_OF_ONE + 1):
        answer = ada.answer('mutation{create_api_key(input: {name: "more"}){key}}')
    assert "revoke one first" in answer["errors"][0]["message"]


def _let_expire(file: Path, name: str) -> None:
    entries = json.loads(file.read_text())
    for entry in entries["keys"]:
        if entry["name"] == name:
            entry["expires_at"] = "2001-01-01T00:00:00.000000+00:00"
    file.write_text(json.dumps(entries))


def test_run_with_an_agent_of_ones_own(ada_at_work: Attendee, grace: Attendee) -> None:
    """Grace's agent has her key from the environment, Ada's from her log-in."""
    ada, word = ada_at_work, uuid4().hex
    grace.environment |= {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API_KEY": grace.key}
    for each in (ada, grace):
        each.ask('mutation{create_project(input: {name: "Hello, agents"}){id}}')
    ada.ask(f'mutation{{set_secret(input: {{name: "TOKEN", value: "{word}"}}){{success}} '
            'set_key_value(input: {key: "of the run", value: "CMU-1"}){id}}')
    (ada.home / "flow.py").write_text(FLOW)
    ada.prefect("register", "--project", "Hello, agents", "-p", "flow.py")
    agents = [_agent(each) for each in (grace, ada)]
    try:
        printed = ada.prefect("run", "--name", "secretive", "--project", "Hello, agents", "--watch")
    finally:
        for agent in agents:
            agent.stop()
        kept = ada.ask("{key_value{id}}")["key_value"][0]["id"]  # or the tests of both would find it
        ada.ask(f'mutation{{delete_key_value(input: {{key_value_id: "{kept}"}}){{success}} '
                'delete_secret(input: {name: "TOKEN"}){success}}')
    assert "Flow run succeeded!" in printed
    run = ada.ask("{flow_run{id state logs{message}}}")["flow_run"][0]
    assert any("has 32 letters, the slide is CMU-1" in line["message"] for line in run["logs"])
    assert word not in ada.server.said()
    link = re.search(r"http://\S+/flow-run/\S+", printed)[0]
    assert link.startswith(ada.server.ui)
    assert run["id"] not in agents[0].said()


def _agent(attendee: Attendee) -> Agent:
    class Of:
        home = attendee.home

        @staticmethod
        def environment() -> dict[str, str]:
            return attendee.environment
    agent = Agent(Of)
    until(lambda: "Waiting for flow runs" in agent.said(), "the agent's start")
    return agent


# tenants kept apart

READ = "{project{id} flow{id} flow_group{id} task{id} edge{id} flow_run{id} task_run{id} flow_run_state{id} " \
       "task_run_state{id} log{id} task_run_artifact{id} agent{id} agent_config{id} key_value{id} task_tag_limit{id} " \
       "cloud_hook{id} message{id}}"
STATE = {"type": "Success", "message": "taken over", "__version__": "1.4.1"}


def furnish(attendee: Attendee) -> dict[str, str]:
    """One row of each kind in the attendee's tenant; their ids by kind."""
    serialized = {"name": "f", "type": "prefect.core.flow.Flow", "parameters": [], "tasks": [
        {"slug": slug, "name": slug, "type": "x", "tags": [], "__version__": "1.4.1"} for slug in ("a-1", "b-1")],
        "edges": [{"upstream_task": {"slug": "a-1"}, "downstream_task": {"slug": "b-1"}, "key": None, "mapped": False}],
        "reference_tasks": [], "storage": {"type": "Local"}, "run_config": {"type": "LocalRun", "labels": []},
        "__version__": "1.4.1"}
    ids: dict[str, str] = {}

    def make(kind: str, mutation: str, /, **values: object) -> None:
        ids[kind] = attendee.ask(f"mutation($input: {mutation}_input!){{{mutation}(input: $input){{id}}}}",
                                 {"input": values})[mutation]["id"]
    make("project", "create_project", name="p")
    make("flow", "create_flow", project_id=ids["project"], serialized_flow=serialized)
    make("flow_run", "create_flow_run", flow_id=ids["flow"], idempotency_key="k")
    make("agent", "register_agent", type="LocalAgent", name="a", labels=[])
    make("agent_config", "create_agent_config", name="c", settings={})
    make("key_value", "set_key_value", key="k", value="mine")
    make("task_tag_limit", "update_task_tag_limit", tag="t", limit=1)
    make("cloud_hook", "create_cloud_hook", type="PREFECT_MESSAGE", states=["Failed"], name="h")
    attendee.ask(f'mutation{{test_cloud_hook(input: {{cloud_hook_id: "{ids["cloud_hook"]}"}}){{success}}}}')
    ids["message"] = attendee.ask("{message{id}}")["message"][0]["id"]
    ids["task"] = attendee.ask("{task{id}}")["task"][0]["id"]
    ids["flow_group"] = attendee.ask("{flow_group{id}}")["flow_group"][0]["id"]
    ids["task_run"] = attendee.ask("{task_run{id}}")["task_run"][0]["id"]
    make("task_run_artifact", "create_task_run_artifact", task_run_id=ids["task_run"], kind="markdown",
         data={"markdown": "mine"})
    attendee.ask("mutation($input: write_run_logs_input!){write_run_logs(input: $input){success}}",
                 {"input": {"logs": [{"flow_run_id": ids["flow_run"], "message": "mine", "level": "INFO"}]}})
    attendee.ask('mutation{set_secret(input: {name: "s", value: "mine"}){success}}')
    ids["tenant"] = attendee.ask("{tenant{id}}")["tenant"][0]["id"]
    return ids


def test_tenants_do_not_see_one_another(ada: Attendee, grace: Attendee) -> None:
    furnish(ada)
    for rows in grace.ask(READ).values():
        assert rows == []
    assert grace.ask("{secret_names}") == {"secret_names": []}
    assert grace.answer('{secret_value(name: "s")}')["errors"]
    furnish(grace)  # the same names are hers too
    mine, hers = ada.ask(READ), grace.ask(READ)
    for kind, rows in mine.items():
        seen = {row["id"] for row in rows}
        assert len(seen) == len(hers[kind])
        assert not seen & {row["id"] for row in hers[kind]}
    for kind in mine:
        counts = {each.ask(f"{{{kind}_aggregate{{aggregate{{count}}}}}}")[f"{kind}_aggregate"]["aggregate"]["count"]
                  for each in (ada, grace)}
        assert counts == {len(mine[kind])}


def test_not_by_id_either(ada: Attendee, grace: Attendee) -> None:
    ids = furnish(ada)
    for kind, row_id in ids.items():
        answer = grace.ask(f'{{{kind}(where: {{id: {{_eq: "{row_id}"}}}}){{id}} {kind}_by_pk(id: "{row_id}"){{id}}}}')
        assert answer == {kind: [], f"{kind}_by_pk": None}
    for field in ("get_task_run_info", "mapped_children"):
        answer = grace.answer(f'{{{field}(task_run_id: "{ids["task_run"]}"){{id}}}}')
        assert "not found" in answer["errors"][0]["message"]


def test_no_mutation_reaches_another_tenant(ada: Attendee, grace: Attendee) -> None:
    """Each mutation that the schema has, with Ada's ids wherever it takes one."""
    ids = furnish(ada)
    own = furnish(grace)
    before = ada.server.ask(_all_of(ada), Authorization=f"Bearer {ada.key}")
    for name, field in SCHEMA.mutation_type.fields.items():
        inputs = field.args["input"].type.of_type.fields
        for foreign in [each for each in inputs if each.endswith("_id") or each in ("states", "logs")]:
            values = {each: _value(each, kind.type, ids if each == foreign else own)
                      for each, kind in inputs.items() if each != "idempotency_key"}
            selection = next(iter(field.type.fields))
            inner = "{id}" if selection == "states" else ""
            grace.answer(f"mutation($input: {name}_input!){{{name}(input: $input){{{selection}{inner}}}}}",
                         {"input": values}, X_PREFECT_AGENT_ID=ids["agent"])
            if not grace.ask("{project{id} flow{id} flow_run{id}}")["flow_run"]:
                own = furnish(grace)  # she has deleted hers
            if not grace.answer("{hello}").get("data"):
                raise AssertionError(f"{name} took Grace's own key")
    assert ada.server.ask(_all_of(ada), Authorization=f"Bearer {ada.key}") == before


def _value(name: str, of: object, ids: dict[str, str]) -> object:
    """Something that fits an input; where it is an id, that of `ids`."""
    known = {"task_run_artifact_id": "task_run_artifact", "limit_id": "task_tag_limit", "user_id": "tenant",
             "key_id": "tenant", "tenant_id": "tenant"}.get(name, name.removesuffix("_id"))
    if name.endswith("_id") and name not in ("version_group_id",):
        return ids.get(known, str(uuid4()))
    if isinstance(get_named_type(of), GraphQLInputObjectType):
        each = get_named_type(of).fields
        return [{part: _value(part, kind.type, ids) for part, kind in each.items() if part != "version"}]
    fitting = {"schedule": {"clocks": []}, "state": STATE, "kind": "link", "states": "Failed", "state_type": "Failed"}
    of_type = {"Int": 0, "Boolean": True, "timestamptz": "2030-01-01T00:00:00+00:00", "jsonb": {"x": "hers"},
               "cloud_hook_type": "PREFECT_MESSAGE"}
    value = fitting.get(name) or of_type.get(str(get_named_type(of)), "hers")
    return [value] if str(of).startswith("[") else value


def _all_of(attendee: Attendee) -> str:
    """A read of every column of every table that the attendee has rows in."""
    wanted = []
    for kind in re.findall(r"(\w+)\{", READ):
        columns = [name for name, field in SCHEMA.type_map[kind].fields.items()
                   if str(field.type).strip("!") in ("String", "Int", "Boolean", "uuid", "jsonb", "timestamptz")]
        wanted.append(f"{kind}(order_by: {{id: asc}}){{{' '.join(columns)}}}")
    return "{" + " ".join(wanted) + " tenant{name slug settings}}"


def test_another_tenants_agent_cannot_be_taken(ada: Attendee, grace: Attendee) -> None:
    ids, own = furnish(ada), furnish(grace)
    grace.answer("mutation($input: set_flow_run_states_input!){set_flow_run_states(input: $input){states{id}}}",
                 {"input": {"states": [{"flow_run_id": own["flow_run"], "state": STATE | {"type": "Submitted"}}]}},
                 X_PREFECT_AGENT_ID=ids["agent"])
    grace.answer('mutation{get_runs_in_queue(input: {before: "2030-01-01T00:00:00+00:00"}){flow_run_ids}}',
                 X_PREFECT_AGENT_ID=ids["agent"])
    through = f'{{flow_run_by_pk(id: "{own["flow_run"]}"){{agent{{name flow_runs{{id}} tenant{{slug}}}}}}}}'
    assert grace.ask(through) == {"flow_run_by_pk": {"agent": None}}
    assert ada.ask("{agent{flow_runs{id}}}") == {"agent": [{"flow_runs": []}]}


def test_runs_of_another_tenant_are_not_in_the_queue(ada: Attendee, grace: Attendee) -> None:
    ids, own = furnish(ada), furnish(grace)
    queue = "mutation($input: get_runs_in_queue_input!){get_runs_in_queue(input: $input){flow_run_ids}}"
    for tenant_id in (ids["tenant"], own["tenant"], None):
        asked = {"input": {"before": "2099-01-01T00:00:00+00:00", "labels": [], "tenant_id": tenant_id}}
        assert grace.ask(queue, asked)["get_runs_in_queue"]["flow_run_ids"] in ([], [own["flow_run"]])
        assert ids["flow_run"] not in grace.ask(queue, asked)["get_runs_in_queue"]["flow_run_ids"]


PAGES = ["/{slug}", "/{slug}/agents", "/{slug}/api", "/{slug}/flow/{flow_group}", "/{slug}/flow-run/{flow_run}",
         "/{slug}/flow-run/{flow_run}/lines", "/{slug}/flow-run/{flow_run}/log.txt", "/{slug}/task-run/{task_run}"]
BUTTONS = ["flow/{flow_group}", "flow/{flow_group}/schedule", "flow/{flow_group}/archive", "flow/{flow_group}/delete",
           "flow/{flow_group}/delete-version", "flow-run/{flow_run}/start", "flow-run/{flow_run}/cancel",
           "flow-run/{flow_run}/restart", "flow-run/{flow_run}/delete", "agents/{agent}/remove", "agents/stale"]


def test_pages_of_another_tenant_do_not_open(ada: Attendee, grace: Attendee) -> None:
    ids, own = furnish(ada), furnish(grace)
    slugs = [each.ask("{tenant{slug}}")["tenant"][0]["slug"] for each in (ada, grace)]
    before = ada.ask(_all_of(ada))
    with requests.Session() as browser:
        def status(method: str, path: str, these: dict[str, str], **form: str) -> int:
            return browser.request(method, ada.server.ui + path.format_map(these), data=form, timeout=60,
                                   headers={"Origin": ada.server.ui}, allow_redirects=False).status_code
        assert {status("GET", path, own | {"slug": slugs[1]}) for path in PAGES} == {303}  # on to the way in
        assert status("POST", "/login", {}, key=grace.key + "x") == 401
        assert status("POST", "/login", {}, key=grace.key) == 303
        assert {status("GET", path, own | {"slug": slugs[1]}) for path in PAGES} == {200}
        assert {status("GET", path, ids | {"slug": slugs[0]}) for path in PAGES} == {404}
        opened = [path for path in PAGES[3:] if status("GET", path, ids | {"slug": slugs[1]}) != 404]
        assert opened == []
        for slug in slugs:
            for button in BUTTONS:
                status("POST", f"/{slug}/{button}", ids, flow_id=ids["flow"], active="on", group=ids["flow_group"])
        page = browser.get(f"{ada.server.ui}/{slugs[1]}?project={ids['project']}", timeout=60).text
        assert ids["flow_group"] not in page
        answer = browser.post(f"{ada.server.ui}/graphql", json={"query": "{flow{id}}"}, timeout=60,
                              headers={"Origin": ada.server.ui}).text
        assert ids["flow"] not in answer and own["flow"] in answer
    assert ada.ask(_all_of(ada)) == before


def test_header_with_another_tenant_is_refused(ada: Attendee, grace: Attendee) -> None:
    theirs = ada.ask("{tenant{id}}")["tenant"][0]["id"]
    answer = grace.answer("{project{id}}", X_PREFECT_TENANT_ID=theirs)
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


def test_server_without_keys_serves_the_same_fields(server: RunningServer) -> None:
    server.ask('mutation{set_secret(input: {name: "s", value: 1}){success} '
               'set_key_value(input: {key: "k", value: 2}){id}}')
    found = server.ask('{auth_info{tenant_id} auth_api_key{id} secret_names secret_value(name: "s") key_value{value} '
                       "tenant{id}}")
    assert found == {"auth_info": {"tenant_id": found["tenant"][0]["id"]}, "auth_api_key": [], "secret_names": ["s"],
                     "secret_value": 1, "key_value": [{"value": 2}], "tenant": found["tenant"]}
    assert "--api-keys" in server.answer('mutation{create_api_key(input: {name: "x"}){key}}')["errors"][0]["message"]


def test_tenants_stay_after_a_restart_and_a_new_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    running = RunningServer(tmp_path, "--api-keys", file, key=api_keys.create(file, "Ada"))
    running.ask('mutation{create_project(input: {name: "p"}){id}}')
    running.stop()
    file.unlink()
    running.key = api_keys.create(file, "Ada")
    running.start()
    assert running.ask("{project{name}}") == {"project": [{"name": "p"}]}
    running.stop()
