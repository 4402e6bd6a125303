"""What a flow costs that does nothing: the solutions' own flows, with every task's work taken out.

compare.py runs this as a process of its own, `python -m slideqc.comparing.empty_flow ORDER`, where ORDER is JSON: the
module whose `define_flow` makes the flow, the executor, the numbers of slides, how often, and the file to write. What
stays is what Prefect and Dask do: states, logs, results handed on, Prefect's own tasks. The slides are names.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path

from prefect import Flow
from prefect.tasks.core.function import FunctionTask


def nothing(**inputs: object) -> None:
    """The work of an emptied task."""


def empty(flow: Flow) -> Flow:
    """The flow, with tasks that take what they are given and do nothing; Prefect's own tasks stay."""
    for task in flow.tasks:
        if isinstance(task, FunctionTask):
            task.run = nothing
    return flow


def run(order: dict) -> list[dict]:
    """Time the emptied flow; returns slides and seconds of each run, those of a pass in the order of `sizes`."""
    module = import_module(order["module"])
    flow = empty(module.define_flow())
    mapped = order["executor"] is not None
    if mapped:
        flow.executor = module.choose_executor(order["executor"], order["workers"], order["scheduler"])
    samples = []
    for number in range(-1, order["passes"]):  # the first, untimed, imports what Prefect imports late
        for size in order["sizes"] if number >= 0 else order["sizes"][:1]:
            names = [f"slide-{index}.svs" for index in range(size)]
            began = time.perf_counter()
            for parameters in [{"file_names": names}] if mapped else [{"file_name": name} for name in names]:
                flow.run(**parameters)
            if number >= 0:
                samples.append({"pass": number, "slides": size, "seconds": time.perf_counter() - began})
    return samples


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    Path(told["to"]).write_text(json.dumps(run(told)), encoding="utf-8")
