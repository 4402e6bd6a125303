"""How the solutions' flows run in a script: as Prefect runs them, without what it sends along with every task.

Prefect 1.4.1 keeps its settings in `prefect.context`, and merges them, section by section, each time the context is
entered: three times a task run, 2 ms each, which is nine tenths of what a task costs that does nothing. Without that, a
task has the settings of the process that runs it, which are the same ones unless a script or a cluster's worker was
given its own; whether results are stored still comes from the run. The runners below are put in place by the setting
that Prefect has for that, `engine.flow_runner.default_class`. Under an agent that setting names Prefect's own runner,
which stays.

Before Dask uses threads it looks for a cluster, for which it imports `distributed`, an eighth of a second; and it takes
apart whatever a task is sent, in search of results that it has yet to compute, a millisecond a task. The executor for
threads names the function that runs them, as `dask.compute` allows, and shows only what can hold such results.

A cluster is sent each mapped task too, which only counts the slides, and the run waits until a worker is free for it;
meanwhile the workers begin slides, and read them again when their next step comes at last. The executor for clusters
counts in this process, where a mapped task's state handlers so run too, and asks for the tasks of the slides in the
order of the slides. Nor does each task then ask the scheduler, 5 ms, whether the run still goes on: Dask forgets the
tasks of a run that is gone.

The context also holds the parameters of the flow run. The list of a mapped flow's slides would travel with each of the
tasks of each slide: work and memory that grow with the square of the slides. A task is given its own element anyway.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.threaded
import prefect
from prefect import engine
from prefect.engine.flow_runner import FlowRunnerInitializeResult
from prefect.engine.state import State
from prefect.engine.task_runner import TaskRunnerInitializeResult
from prefect.executors import DaskExecutor, Executor, LocalDaskExecutor

STOCK = "prefect.engine.flow_runner.FlowRunner"


def _without_settings(context: dict) -> dict:
    return {key: value for key, value in context.items() if key != "config"}


def _with_two_slides_in_hand(fn: Callable, *args: Any, **kwargs: Any) -> Any:
    """On a thread or a worker, which begins its next slide while it waits to hear what follows for this one."""
    from slideqc.slides import reading  # not before there are slides to read
    reading.keep(2)
    return fn(*args, **kwargs)


class TaskRunner(engine.TaskRunner):
    """A task runner that enters the context without the settings, which are there already."""

    def initialize_run(self, *args: Any, **kwargs: Any) -> TaskRunnerInitializeResult:
        """As in Prefect, with a context that says nothing of settings."""
        begun = super().initialize_run(*args, **kwargs)
        return begun._replace(context=_without_settings(begun.context))


class Threads(LocalDaskExecutor):
    """Prefect's executor for threads, to which a task's context goes in one piece."""

    def submit(self, fn: Callable, *args: Any, context: dict | None = None, **kwargs: Any) -> Any:
        """As in Prefect; a context holds no result of another task."""
        if context is not None:
            fn = functools.partial(_with_two_slides_in_hand, fn, context=_without_settings(context))
        return super().submit(fn, *args, **kwargs)

    def wait(self, futures: Any) -> Any:
        """As in Prefect, with a scheduler that Dask need not look for."""
        return dask.compute(futures, scheduler=dask.threaded.get, pool=self._pool, optimize_graph=False,
                            callbacks=(self.callback._callback,))[0]


class Cluster(DaskExecutor):
    """Prefect's executor for a cluster, which takes one slide through its steps before it begins the next."""

    def __init__(self, stock: DaskExecutor) -> None:
        self.__setstate__(stock.__getstate__())
        self.disable_cancellation_event = True
        self._since = int(time.time()) * 10**6  # so that a later run does not go before this one

    def submit(self, fn: Callable, *args: Any, extra_context: dict | None = None, **kwargs: Any) -> Any:
        """As in Prefect, first come first served among the slides and not among the tasks."""
        if kwargs.get("is_mapped_parent") and not kwargs["upstream_mapped_states"]:
            return fn(*args, **kwargs)  # only counts the slides: no need to wait for a worker to be free
        index = (extra_context or {}).get("task_index")
        priority = (1 if index is None else -index) - self._since  # without an index: all slides wait for it
        if "context" in kwargs:
            kwargs["context"] = _without_settings(kwargs["context"])
            fn = functools.partial(_with_two_slides_in_hand, fn)
        return super().submit(fn, *args, extra_context=extra_context, priority=priority, **kwargs)


class FlowRunner(engine.FlowRunner):
    """A flow runner whose tasks are sent neither the settings nor the parameters that are lists."""

    def __init__(self, *args: Any, task_runner_cls: type = TaskRunner, **kwargs: Any) -> None:
        super().__init__(*args, task_runner_cls=task_runner_cls, **kwargs)

    def initialize_run(self, *args: Any, **kwargs: Any) -> FlowRunnerInitializeResult:
        """As in Prefect, with task contexts that override no setting and list no slides."""
        begun = super().initialize_run(*args, **kwargs)
        parameters = {name: value for name, value in begun.context["parameters"].items() if not isinstance(value, list)}
        for task in self.flow.tasks:
            context = begun.task_contexts.setdefault(task, {})
            context["config"] = {}
            context.setdefault("checkpointing", prefect.config.flows.checkpointing)  # the one that Prefect takes along
            if not isinstance(task, prefect.Parameter):  # which takes its value from there
                context["parameters"] = parameters
        return begun

    def get_flow_run_state(self, *args: Any, executor: Executor, **kwargs: Any) -> State:
        """As in Prefect, on our threads where the flow has Prefect's."""
        if type(executor) is LocalDaskExecutor and executor.scheduler == "threads":
            executor = Threads(**executor.dask_config)
        elif type(executor) is DaskExecutor:
            executor = Cluster(executor)
        return super().get_flow_run_state(*args, executor=executor, **kwargs)


def use() -> None:
    """Run flows leanly from now on, unless another runner was asked for."""
    runner = prefect.config.engine.flow_runner
    if runner.default_class == STOCK:
        runner.default_class = f"{__name__}.{FlowRunner.__name__}"
