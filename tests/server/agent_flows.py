"""The flows that the tests of agents run. As a script it registers them with a project, and prints their ids.

They are pickled with all that they need, because this file is run and not imported: an agent anywhere can run them.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import prefect
from prefect import Flow, Parameter, task, unmapped
from prefect.backend.artifacts import create_link_artifact, create_markdown_artifact
from prefect.engine.results import LocalResult
from prefect.executors import DaskExecutor, LocalDaskExecutor
from prefect.tasks.prefect import StartFlowRun, create_flow_run, wait_for_flow_run


@task
def note(notes: str, word: object) -> object:
    """Leave a line in a file, which tells how often this ran."""
    prefect.context.logger.info("noted %s", word)
    with Path(notes).open("a", encoding="utf-8") as file:
        file.write(f"{word}\n")
    return word


def serial() -> Flow:
    with Flow("serial") as flow:
        notes = Parameter("notes")
        note(notes, note(notes, "first", task_args={"name": "first"}), task_args={"name": "second"})
    return flow


def mapped(name: str, executor: object) -> Flow:
    @task
    def total(numbers: list) -> int:
        assert sorted(numbers) == list(range(len(numbers)))
        return sum(numbers)

    with Flow(name, executor=executor) as flow:
        total(note.map(unmapped(Parameter("notes")), Parameter("numbers")))
    return flow


def retries(name: str, delay: timedelta) -> Flow:
    @task(max_retries=1, retry_delay=delay)
    def second_time(notes: str) -> None:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{prefect.context.task_run_count}\n")
        if prefect.context.task_run_count == 1:
            raise OSError("the drive is away")

    with Flow(name) as flow:
        second_time(Parameter("notes"))
    return flow


def cached() -> Flow:
    @task(cache_for=timedelta(hours=1), cache_validator=prefect.engine.cache_validators.all_inputs)
    def slow(notes: str, size: int) -> int:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{size}\n")
        return 2 * size

    with Flow("cached", result=LocalResult(Path.home() / "results")) as flow:
        notes = Parameter("notes")
        note(notes, slow(notes, Parameter("size")))
    return flow


def artifacts() -> Flow:
    @task
    def show() -> None:
        create_link_artifact("https://example.org/report.html")
        create_markdown_artifact("# Blurry")

    return Flow("artifacts", tasks=[show])


def endless() -> Flow:
    @task
    def wait(notes: str) -> None:
        Path(notes).write_text("started\n", encoding="utf-8")
        for _ in range(1200):
            time.sleep(0.1)

    with Flow("endless") as flow:
        notes = Parameter("notes")
        note(notes, wait(notes))
    return flow


def mended() -> Flow:
    """Of its children, number 1 fails until there is a file `notes`.mended."""
    @task
    def check(notes: str, number: int) -> int:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")
        if number == 1 and not Path(f"{notes}.mended").exists():
            raise ValueError("slide 1 is truncated")
        return number

    with Flow("mended", result=LocalResult(Path.home() / "results")) as flow:
        notes = Parameter("notes")
        rows = check.map(unmapped(notes), [0, 1, 2])
        note(notes, rows)
    return flow


def outer() -> Flow:
    with Flow("outer") as flow:
        notes, project = Parameter("notes"), Parameter("project")
        inner = create_flow_run(flow_name="serial", project_name=project, parameters={"notes": notes})
        wait_for_flow_run(inner, raise_final_state=True)
        StartFlowRun(flow_name="serial", wait=True, poll_interval=timedelta(seconds=3))(
            project_name=project, parameters={"notes": notes})
    return flow


def failing() -> Flow:
    @task
    def load() -> None:
        raise ValueError("slide 7 is truncated")

    return Flow("failing", tasks=[load])


def main(project: str) -> None:
    flows = [
        serial(), mapped("threads", LocalDaskExecutor(scheduler="threads", num_workers=4)),
        mapped("dask", DaskExecutor(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2,
                                                    "dashboard_address": None})),
        retries("short retry", timedelta(seconds=2)), retries("long retry", timedelta(minutes=20)), cached(),
        artifacts(), endless(), mended(), outer(), failing()]
    print(json.dumps({flow.name: flow.register(project_name=project, no_url=True) for flow in flows}))


if __name__ == "__main__":
    main(sys.argv[1])
