"""Times the solutions' flows with tasks that do nothing: what remains is the cost of Prefect and Dask.

compare.py runs this as a process of its own, `python -m slideqc.comparing.empty_flow ORDER`, where ORDER is JSON: the
module whose `define_flow` makes the flow, the executor, the numbers of slides, how often, and the file to write.
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


def run(order: dict) -> list[dict]:
    """Time the empty flow; returns slides and seconds of each run, for each pass in the order of `sizes`."""
    module = import_module(order["module"])
    flow = empty(module.define_flow())
    mapped = order["executor"] is not None
    if mapped:
        flow.executor = module.choose_executor(order["executor"], order["workers"], order["scheduler"])
    samples = []
    for number in range(-1, order["passes"]):  # the first is not timed: some imports of Prefect come late
        for size in order["sizes"] if number >= 0 else order["sizes"][:1]:
            names = [f"slide-{index}.svs" for index in range(size)]
            began = time.perf_counter()
            for parameters in [{"file_names": names}] if mapped else [{"file_name": name} for name in names]:
                flow.run(**parameters)
            if number >= 0:
                samples.append({"pass": number, "slides": size, "seconds": time.perf_counter() - began})
    return samples


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    Path(order["to"]).write_text(json.dumps(run(order)), encoding="utf-8")
