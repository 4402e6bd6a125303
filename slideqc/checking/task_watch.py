"""Watches tasks while they run in this process: what they log, and whether they change what they are given."""

import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Iterator

import numpy as np

from slideqc.checking.steps import TASKS

COMPARED = (bool, int, float, str, bytes, list, tuple, dict, set, np.ndarray, type(None))


class TaskWatch(logging.Handler):
    """Collects `changes`, as pairs of task and what it changed, and the `loggers` that blurry_action uses.

    `loggers` is None if blurry_action did not run. `write_note` is called as each task begins.
    """

    def __init__(self, write_note: Callable[[str, str], None]) -> None:
        super().__init__()
        self.write_note = write_note
        self.running_task, self.changes, self.loggers = None, [], None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the name of the logger, if blurry_action is the task that logs."""
        if self.running_task == "blurry_action":
            self.loggers.append(record.name)

    def watched(self, name: str, function: Callable) -> Callable:
        """The function of a task, which is watched while it runs."""
        @functools.wraps(function)
        def run(*args: object, **arguments: object) -> object:
            self.write_note("stage", f"running the task {name}")
            before = {key: copy_state(value) for key, value in arguments.items()}
            variables = global_variables(function)
            self.running_task = name
            if name == "blurry_action":
                self.loggers = self.loggers or []
            try:
                return function(*args, **arguments)
            finally:
                self.running_task = None
                self.changes += [(name, f"{changed}, which it was given") for key, value in arguments.items()
                                 if (changed := difference(key, before[key], copy_state(value)))]
                self.changes += [(name, f"the global variable {key}")
                                 for key, value in global_variables(function).items()
                                 if key not in variables or not are_equal(variables[key], value)]
        return run

    @contextlib.contextmanager
    def watch(self, flow: object) -> Iterator[None]:
        """Watch the pipeline's steps among the tasks of a flow."""
        functions = [(task, task.run) for task in flow.tasks if task.name in TASKS]
        for task, function in functions:
            task.run = self.watched(task.name, function)
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)
            for task, function in functions:
                task.run = function


def global_variables(function: Callable) -> dict[str, object]:
    """Copies of the global variables that a function uses, as far as they hold plain values."""
    variables, code = getattr(function, "__globals__", {}), getattr(function, "__code__", None)
    return {name: copy_state(variables[name]) for name in (code.co_names if code else ())
            if name in variables and isinstance(variables[name], COMPARED)}


def copy_state(value: object) -> object:
    """A copy of what a value or an object holds, to compare with later; None if it cannot be copied."""
    try:
        return copy.deepcopy(vars(value) if hasattr(value, "__dict__") else value)
    except Exception:
        return None


def difference(name: str, before: object, after: object) -> str | None:
    """The name of the argument, or of its attribute, that has changed; None if nothing has."""
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [key for key in after if key not in before or not are_equal(before[key], after[key])]
        return f"{name}.{changed[0]}" if changed else None
    return None if before is None or are_equal(before, after) else name


def are_equal(one: object, other: object) -> bool:
    """Are two values equal? Arrays are, if all their elements are."""
    equal = one == other
    return bool(equal.all() if hasattr(equal, "all") else equal)
