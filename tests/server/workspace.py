"""A place of its own on a server for one test: a tenant, a project, and Prefect's own client in it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener
from uuid import uuid4

import prefect
from prefect import Client, Flow, Task
from prefect.utilities.configuration import set_temporary_config

from harness import PATIENCE, RunningServer


@contextmanager
def as_client_of(server: RunningServer) -> Iterator[None]:
    """Let Prefect, in this process, talk to the server alone, with nobody's home in it."""
    home = server.home / ".prefect"
    with set_temporary_config({
            "backend": "server", "server.endpoint": server.url, "server.ui.endpoint": server.ui,
            "cloud.api": server.url, "cloud.graphql": server.url, "home_dir": str(home)}):
        yield


class Workspace:
    """A tenant with one project; `client` is Prefect's own. The tenant is a new one, unless `slug` names one."""

    def __init__(self, server: RunningServer, slug: str | None = None) -> None:
        self.server = server
        self.name = uuid4().hex[:8]
        self.slug = slug or self.name
        self.project = f"project {self.name}"
        if slug is None:
            self.do("create_tenant", name=self.name, slug=self.slug)
        (tenant,) = self.rows("tenant", "id", slug=self.slug)
        self.tenant = tenant["id"]
        self.client = Client(api_server=server.url, tenant_id=self.tenant)
        self.project_id = self.client.create_project(self.project)
        self.flows: dict[str, str] = {}

    def agent(self, name: str) -> Client:
        """Another client, that asks as an agent of its own does."""
        client = Client(api_server=self.server.url, tenant_id=self.tenant)
        client.attach_headers({"X-PREFECT-AGENT-ID": client.register_agent("LocalAgent", name=name)})
        return client

    def do(self, mutation: str, asked: str | None = None, **given: object) -> dict:
        """What a mutation gives, `id` unless asked for other fields; AssertionError where it is refused."""
        answer = self.attempt(mutation, asked, **given)
        assert "errors" not in answer, answer["errors"]
        return answer["data"][mutation]

    def attempt(self, mutation: str, asked: str | None = None, **given: object) -> dict:
        """The answer to a mutation, errors included."""
        asked = asked or ("id" if mutation.startswith("create_") else "success")
        query = f"mutation($input: {mutation}_input!) {{ {mutation}(input: $input) {{ {asked} }} }}"
        return self.server.answer(query, {"input": given})

    def problem(self, mutation: str, **given: object) -> str:
        """Why a mutation is refused."""
        (error,) = self.attempt(mutation, **given)["errors"]
        return error["message"]

    def read(self, table: str, row_id: str, columns: str) -> dict:
        """Columns of one row, None where it is gone."""
        return self.server.ask(f'query {{ {table}_by_pk(id: "{row_id}") {{ {columns} }} }}')[f"{table}_by_pk"]

    def rows(self, table: str, columns: str, order_by: str = "{created: asc}", **where: object) -> list[dict]:
        """Columns of the rows that hold these values."""
        values = ", ".join(f"{name}: {{_eq: {json.dumps(value)}}}" for name, value in where.items())
        return self.server.ask(
            f"query {{ {table}(where: {{{values}}}, order_by: {order_by}) {{ {columns} }} }}")[table]

    def register(self, flow: Flow, **options: object) -> str:
        """Register a flow as `flow.register` does, but without storage; its id."""
        options = {"project_name": self.project, "build": False, "no_url": True} | options
        return self.client.register(flow, **options)

    def flow(self, *tasks: str, **options: object) -> str:
        """Register a flow of such tasks, which do nothing; its id."""
        return self.register(plain_flow(*tasks), **options)

    def run(self, *tasks: str, **options: object) -> str:
        """A run of such a flow, which is registered once, under a name of its own; its id."""
        name = " ".join(tasks or ("a",))
        if name not in self.flows:
            self.flows[name] = self.register(plain_flow(*tasks, name=name))
        return self.client.create_flow_run(flow_id=self.flows[name], **options)

    def running(self, *tasks: str) -> str:
        """A run that is Running."""
        run_id = self.run(*tasks)
        self.client.set_flow_run_state(run_id, prefect.engine.state.Running(), version=1)
        return run_id

    def task_run(self, flow_run_id: str, name: str = "a", map_index: int = -1) -> str:
        """The id of a run of the task with this name; it is created where it is new."""
        flow_id = self.read("flow_run", flow_run_id, "flow_id")["flow_id"]
        (task,) = self.rows("task", "id", flow_id=flow_id, name=name)
        return self.client.get_task_run_info(flow_run_id, task["id"], map_index).id

    def queue(self, *labels: str, before: str | None = None) -> list[str]:
        """The flow runs that an agent with these labels is offered."""
        return self.do("get_runs_in_queue", "flow_run_ids", tenant_id=self.tenant, labels=list(labels),
                       before=before)["flow_run_ids"]

    def press(self, flow_run_id: str, button: str) -> str:
        """Press a button of the flow run's page; the text of the page that it leads to."""
        page = f"/{self.slug}/flow-run/{flow_run_id}"
        form = urlencode({"back": page}).encode()
        browser = build_opener(HTTPCookieProcessor())  # what was done is told in a cookie
        with browser.open(Request(f"{self.server.ui}{page}/{button}", form, {"Origin": self.server.ui}),
                          timeout=PATIENCE) as answer:
            return answer.read().decode()


def plain_flow(*tasks: str, name: str = "plain") -> Flow:
    """A flow of tasks that do nothing, without edges."""
    return Flow(name, tasks=[Task(name=each) for each in tasks or ("a",)])
