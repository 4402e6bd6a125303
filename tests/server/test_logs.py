"""Log lines, artifacts, names and cached states; and texts that databases and JSON find hard."""

from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import pytest
from prefect.engine.state import Cached, Running, Success
from prefect.exceptions import ClientError

from harness import PATIENCE
from workshop_server.store import timestamps
from workspace import Workspace

NOBODY = "00000000-0000-4000-8000-000000000000"
HARD = ["NUL \0 inside", "half a pair \ud83d", "the other \udc4b half", "👋 whole", "<b>&amp;'\"`$(x)",
        "\u2028\x1b[31m"]


def readable(text: str) -> str:
    """The text as the server keeps it: without NUL, and without halves of pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def lines(space: Workspace, run_id: str) -> list[dict]:
    return space.rows("log", "level message name timestamp task_run_id info", "{timestamp: asc, id: asc}",
                      flow_run_id=run_id)


# logs

def test_a_batch_of_log_lines(space: Workspace) -> None:
    run_id = space.run()
    task_run = space.task_run(run_id)
    sent = [{"flow_run_id": run_id, "task_run_id": task_run if number % 2 else None, "name": "prefect.a",
             "timestamp": f"2030-01-01T00:00:{number:02}.5+00:00", "level": level, "message": f"line {number}",
             "info": {"lineno": number}}
            for number, level in enumerate(["INFO", "ERROR", "VERBOSE", "Level 15"])]
    space.client.write_run_logs(sent[::-1])
    found = lines(space, run_id)
    assert [(line["message"], line["level"], line["task_run_id"], line["info"]) for line in found] == [
        (each["message"], each["level"], each["task_run_id"], each["info"]) for each in sent]
    assert found[0]["timestamp"] == "2030-01-01T00:00:00.500000+00:00"


def test_what_the_agent_and_the_command_line_send(space: Workspace) -> None:
    """The agent leaves out timestamp and task run; `prefect execute` sends one object instead of a list."""
    run_id = space.run()
    before = timestamps.now()
    short = {"flow_run_id": run_id, "name": "agent", "message": "Submitted for execution: PID: 7", "level": "INFO"}
    space.client.write_run_logs([short])
    space.client.write_run_logs(dict(short, message="one object"))
    found = lines(space, run_id)
    assert [line["message"] for line in found] == ["Submitted for execution: PID: 7", "one object"]
    assert all(before <= line["timestamp"] <= timestamps.now() and line["task_run_id"] is None for line in found)


def test_a_batch_sent_again_counts_once(space: Workspace) -> None:
    run_id = space.run()
    batch = [{"flow_run_id": run_id, "timestamp": timestamps.now(), "name": "prefect.a", "level": "INFO",
              "message": f"line {number}"} for number in range(3)]
    for sent in (batch, batch, [dict(batch[0], timestamp=timestamps.now())]):
        space.client.write_run_logs(sent)
    assert [line["message"] for line in lines(space, run_id)] == ["line 0", "line 1", "line 2", "line 0"]


def test_lines_of_a_run_that_is_gone_cost_the_others_nothing(space: Workspace) -> None:
    gone, stays = space.run(), space.run()
    space.do("delete_flow_run", flow_run_id=gone)
    space.client.write_run_logs([{"flow_run_id": run_id, "task_run_id": NOBODY, "message": "x"}
                                 for run_id in (gone, stays, NOBODY)])
    assert [(line["message"], line["task_run_id"]) for line in lines(space, stays)] == [("x", None)]


def test_a_batch_of_4_mb(space: Workspace) -> None:
    run_id = space.run()
    messages = [f"{number} " + "ä" * 50_000 for number in range(40)]
    space.client.write_run_logs([{"flow_run_id": run_id, "message": message, "timestamp": timestamps.now()}
                                 for message in messages])
    assert [line["message"] for line in lines(space, run_id)] == messages


# texts

@pytest.mark.parametrize("text", HARD, ids=ascii)
def test_hard_texts(space: Workspace, text: str) -> None:
    """In every place that takes a text, it is kept, or as much of it as can be, and what holds it can be read."""
    run_id = space.run(parameters={text: [text]}, context={"x": text}, run_name=text, labels=[text])
    task_run = space.task_run(run_id)
    space.client.write_run_logs([{"flow_run_id": run_id, "message": text, "level": text, "name": text,
                                  "info": {text: text}}])
    space.client.set_flow_run_state(run_id, Running(message=text), version=1)
    space.client.set_task_run_state(task_run, Success(message=text, context={"tags": [text]}), version=0)
    space.client.set_task_run_name(task_run, text)
    artifact = space.client.create_task_run_artifact(task_run, "markdown", {"markdown": text})
    agent = space.client.register_agent("LocalAgent", name=text, labels=[text])
    config = space.do("create_agent_config", name=text, settings={text: text}, tenant_id=space.tenant)["id"]
    (line,) = lines(space, run_id)
    run = space.read("flow_run", run_id, "name parameters context labels state_message serialized_state")
    task = space.read("task_run", task_run, "name state_message serialized_state")
    its_own = readable(text)
    assert {line["message"], line["level"], line["name"], run["name"], run["state_message"], task["name"],
            task["state_message"]} == {its_own}
    kept = [*run["parameters"], *run["parameters"].values(), run["context"]["x"], run["labels"],
            run["serialized_state"]["message"], task["serialized_state"]["context"]["tags"], line["info"],
            space.read("task_run_artifact", artifact, "data")["data"]["markdown"],
            space.read("agent", agent, "labels")["labels"], space.read("agent_config", config, "settings")["settings"]]
    for each in kept:
        for found in each if isinstance(each, (list, dict)) else [each]:
            assert readable(found) == its_own
    assert readable(space.client.get_flow_run_info(run_id).state.message) == its_own
    for tab in ("timeline", "logs", "parameters", "artifacts"):
        with urlopen(f"{space.server.ui}/{space.slug}/flow-run/{run_id}?tab={tab}", timeout=PATIENCE) as page:
            assert page.status == 200


def test_hard_texts_in_an_error(space: Workspace) -> None:
    for text in HARD:
        said = space.problem("create_task_run_artifact", task_run_id=space.task_run(space.run()), kind=text, data={})
        assert "link or markdown" in said
        said = space.problem("create_flow", project_id=space.project_id, serialized_flow={"name": text, "tasks": [{}]})
        assert "slug" in said


# artifacts, names, caches

def test_artifacts(space: Workspace) -> None:
    task_run = space.task_run(space.run())
    link = space.client.create_task_run_artifact(task_run, "link", {"link": "https://example.org"})
    markdown = space.client.create_task_run_artifact(task_run, "markdown", {"markdown": "# Title"})
    row = space.read("task_run_artifact", link, "kind data task_run { id }")
    assert row == {"kind": "link", "data": {"link": "https://example.org"}, "task_run": {"id": task_run}}
    space.client.update_task_run_artifact(markdown, {"markdown": "# Other"})
    space.client.delete_task_run_artifact(link)
    assert space.rows("task_run_artifact", "id data", task_run_id=task_run) == [
        {"id": markdown, "data": {"markdown": "# Other"}}]
    for action in (lambda: space.client.delete_task_run_artifact(link),
                   lambda: space.client.update_task_run_artifact(link, {"link": "x"}),
                   lambda: space.client.create_task_run_artifact(NOBODY, "link", {"link": "x"})):
        with pytest.raises(ClientError, match="not found"):
            action()


def test_names(space: Workspace) -> None:
    run_id = space.run()
    task_run = space.task_run(run_id)
    assert space.client.set_flow_run_name(run_id, "slide 1.svs") is True
    assert space.client.set_task_run_name(task_run, "load slide 1.svs") is True
    assert space.read("flow_run", run_id, "name") == {"name": "slide 1.svs"}
    assert space.read("task_run", task_run, "name") == {"name": "load slide 1.svs"}
    with pytest.raises(ClientError):
        space.client.set_flow_run_name(run_id, " ")


def test_cached_states(space: Workspace) -> None:
    start = datetime.now(UTC)
    run_id = space.running("a", "b")
    flow_id = space.read("flow_run", run_id, "flow_id")["flow_id"]
    tasks = {row["name"]: row["id"] for row in space.rows("task", "id name", flow_id=flow_id)}
    for number in range(2):
        again = space.client.create_flow_run(flow_id=flow_id)
        space.client.set_flow_run_state(again, Running(), version=1)
        space.client.set_task_run_state(space.task_run(again), Cached(message=f"run {number}"), version=0)
    space.client.set_task_run_state(space.task_run(run_id, "b"), Success(), version=0)

    def cached(name: str, since: datetime = start) -> list[str]:
        return [each.message for each in space.client.get_latest_cached_states(tasks[name], None, since)]

    assert cached("a") == ["run 1", "run 0"] and cached("b") == []
    assert cached("a", datetime.now(UTC) + timedelta(seconds=1)) == []
    assert space.client.get_latest_cached_states(tasks["a"], "a key", start) == []


def test_secrets_are_no_rows_to_read(space: Workspace) -> None:
    space.do("set_secret", name="PASSWORD", value="hunter2")
    for query in ("query { secret { value } }", "query { secret_by_pk(id: 1) { value } }",
                  "query { tenant { secrets { value } } }", "query { key_value { secret } }"):
        assert space.server.answer(query)["status"] == 400
    assert "hunter2" not in str(space.server.ask("query { secret_names }"))
