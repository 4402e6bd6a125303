"""Times the solutions' flows with tasks that do nothing: what remains is the cost of Prefect and Dask.

compare.py runs this as a process of its own, `python -m slideqc.comparing.empty_flow ORDER`, where ORDER is JSON: the
module whose `define_flow` makes the flow, the executor, the number of slides, how often, and the file to write.
States, logs, results handed on and Prefect's own tasks stay as they are. No slide is read: there are only names.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path

from prefect import Flow
from prefect.tasks.core.function import FunctionTask


def nothing(**inputs: object) -> None:
    """What each task does instead of its work."""


def empty(flow: Flow) -> Flow:
    """Replace the work of the flow's tasks by nothing; Prefect's own tasks stay. Returns the flow."""
    for task in flow.tasks:
        if isinstance(task, FunctionTask):
            task.run = nothing
    return flow


def run(order: dict) -> list[float]:
    """Time the empty flow; returns the seconds of each pass over all slides."""
    module = import_module(order["module"])
    flow = empty(module.define_flow())
    mapped = order["executor"] is not None
    if mapped:
        flow.executor = module.choose_executor(order["executor"], order["workers"], order["scheduler"])
    names = [f"slide-{index}.svs" for index in range(order["slides"])]
    seconds = []
    for _ in range(1 + order["passes"]):
        began = time.perf_counter()
        for parameters in [{"file_names": names}] if mapped else [{"file_name": name} for name in names]:
            flow.run(**parameters)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]  # the first does not count: some imports of Prefect come late


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    Path(order["to"]).write_text(json.dumps(run(order)), encoding="utf-8")
