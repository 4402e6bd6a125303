"""How the solutions' flows run in a script: as Prefect runs them, without what it sends along with every task.

Prefect 1.4.1 keeps its settings in `prefect.context`, and merges them, section by section, each time the context is
entered: three times a task run, 2 ms each, which is nine tenths of what a task costs that does nothing. The settings
of a task are those of the process that runs it, so the merging changes nothing there. The runners below leave it out;
they are put in place by the setting that Prefect has for that, `engine.flow_runner.default_class`. Under an agent that
setting names Prefect's own runner, which stays.

The context also holds the parameters of the flow run. The list of a mapped flow's slides would travel with each of the
tasks of each slide: work and memory that grow with the square of the slides. A task is given its own element anyway.
"""

from typing import Any

import prefect
from prefect import engine
from prefect.engine.flow_runner import FlowRunnerInitializeResult
from prefect.engine.task_runner import TaskRunnerInitializeResult

STOCK = "prefect.engine.flow_runner.FlowRunner"


class TaskRunner(engine.TaskRunner):
    """A task runner that enters the context without the settings, which are there already."""

    def initialize_run(self, *args: Any, **kwargs: Any) -> TaskRunnerInitializeResult:
        """As in Prefect, with a context that says nothing of settings."""
        begun = super().initialize_run(*args, **kwargs)
        return begun._replace(context={key: value for key, value in begun.context.items() if key != "config"})


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
            if not isinstance(task, prefect.Parameter):  # which takes its value from there
                context["parameters"] = parameters
        return begun


def use() -> None:
    """Run flows leanly from now on, unless another runner was asked for."""
    runner = prefect.config.engine.flow_runner
    if runner.default_class == STOCK:
        runner.default_class = f"{__name__}.{FlowRunner.__name__}"
