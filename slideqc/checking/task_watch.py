"""Looks on while tasks run in this process: what they log, and whether they change what they are given."""

import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Iterator

import numpy as np

from slideqc.checking.steps import TASKS

PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, np.ndarray, type(None))


class Watch(logging.Handler):
    """What was seen: `changes`, as task and argument, and the names of the `logs` that blurry_action speaks through.

    `note` is told of each task as it begins.
    """

    def __init__(self, note: Callable[[str, str], None]) -> None:
        super().__init__()
        self.note = note
        self.task, self.changes, self.logs = None, [], None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the name of the logger that blurry_action speaks through."""
        if self.task == "blurry_action":
            self.logs.append(record.name)

    def around(self, name: str, work: Callable) -> Callable:
        """The task's function, watched."""
        @functools.wraps(work)
        def watched(*args: object, **given: object) -> object:
            self.note("stage", f"running the task {name}")
            before = {key: state_of(value) for key, value in given.items()}
            variables = global_variables(work)
            self.task = name
            if name == "blurry_action":
                self.logs = self.logs or []
            try:
                return work(*args, **given)
            finally:
                self.task = None
                self.changes += [(name, f"{what}, which it was given") for key, value in given.items()
                                 if (what := difference(key, before[key], state_of(value)))]
                self.changes += [(name, f"the global variable {key}") for key, value in global_variables(work).items()
                                 if key not in variables or not same(variables[key], value)]
        return watched

    @contextlib.contextmanager
    def over(self, flow: object) -> Iterator[None]:
        """Watch the pipeline's steps among the tasks of a flow."""
        real = [(task, task.run) for task in flow.tasks if task.name in TASKS]
        for task, work in real:
            task.run = self.around(task.name, work)
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)
            for task, work in real:
                task.run = work


def global_variables(work: Callable) -> dict[str, object]:
    """Copies of the plain values that a function's global variables hold."""
    around, code = getattr(work, "__globals__", {}), getattr(work, "__code__", None)
    return {name: state_of(around[name]) for name in (code.co_names if code else ())
            if name in around and isinstance(around[name], PLAIN)}


def state_of(value: object) -> object:
    """A copy of what an argument holds, to compare with later; None where it cannot be copied."""
    try:
        return copy.deepcopy(vars(value) if hasattr(value, "__dict__") else value)
    except Exception:
        return None


def difference(name: str, before: object, after: object) -> str | None:
    """What became of an argument, in words; None if nothing did."""
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [key for key in after if key not in before or not same(before[key], after[key])]
        return f"{name}.{changed[0]}" if changed else None
    return None if before is None or same(before, after) else name


def same(one: object, other: object) -> bool:
    """Are they equal? Arrays are if all their elements are."""
    equal = one == other
    return bool(equal.all() if hasattr(equal, "all") else equal)
