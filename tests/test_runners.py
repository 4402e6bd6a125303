"""The runners of slideqc/orchestration/runners.py: flows run as Prefect runs them, with less copying."""

import subprocess
import sys
from datetime import timedelta

import distributed
import prefect
import pytest
from prefect import Flow, Parameter, task, unmapped
from prefect.engine import signals
from prefect.engine.state import Mapped
from prefect.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

from conftest import HOME, environment
from slideqc.orchestration import runners

EXECUTORS = {"local": LocalExecutor(), "threads": LocalDaskExecutor(scheduler="threads", num_workers=2),
             "processes": LocalDaskExecutor(scheduler="processes", num_workers=2)}


@pytest.fixture(autouse=True)
def lean():
    """As slideqc/orchestration/flows.py does, which every solution imports."""
    runners.use()


@task
def setting(number):
    """What a task sees of Prefect's settings, and of its run."""
    context = prefect.context
    return number, context.config.cloud.queue_interval, context.config.server.ui.port, context.parameters, context.date


@task(max_retries=1, retry_delay=timedelta(0))
def second_time():
    """Fails the first time."""
    if prefect.context.task_run_count < 2:
        raise ValueError("not yet")
    return prefect.context.task_run_count


@task
def loops():
    """Runs three times in one."""
    count = prefect.context.get("task_loop_count", 1)
    if count < 3:
        raise signals.LOOP(result=count)
    return count


@pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)
def test_tasks_see_what_they_saw(executor):
    with Flow("settings", executor=executor) as flow:
        seen, retried, looped = setting.map([1, 2, 3]), second_time(), loops()
    assert prefect.engine.get_default_flow_runner_class() is runners.FlowRunner
    lean, stock = flow.run(), flow.run(runner_cls=prefect.engine.FlowRunner)
    for state in (lean, stock):
        assert state.is_successful() and (state.result[retried].result, state.result[looped].result) == (2, 3)
    shown = [[found[:4] for found in state.result[seen].result] for state in (lean, stock)]
    assert shown[0] == shown[1] == [(number, 30, 8080, {}) for number in (1, 2, 3)]


@pytest.mark.parametrize(("executor", "most"), [("local", 5), ("threads", 2)], ids=["a task", "a thread"])
def test_settings_are_copied_once_at_most_and_not_three_times(monkeypatch, executor, most):
    copies = []
    merge = prefect.utilities.context.merge_dicts
    monkeypatch.setattr(prefect.utilities.context, "merge_dicts",
                        lambda mine, given: copies.append(bool(given)) or merge(mine, given))
    with Flow("counted", executor=EXECUTORS[executor]) as flow:
        setting.map([1, 2, 3, 4])  # five task runs: the mapped task, four children
    flow.run()
    assert sum(copies) == 1 and len(copies) <= 1 + most, "settings are merged for the flow run, and for no task run"
    copies.clear()
    flow.run(runner_cls=prefect.engine.FlowRunner)
    assert sum(copies) == 1 + 3 * 5, "Prefect does otherwise now: perhaps the runners are no longer needed"


def test_a_runner_that_was_asked_for_stays(tmp_path):
    """As under an agent, which names the one that talks to the server."""
    cloud = "prefect.engine.cloud.CloudFlowRunner"
    program = ("import prefect; from slideqc.orchestration import flows; "
               "print(prefect.engine.get_default_flow_runner_class().__module__)")
    said = [subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True,
                           env=environment(tmp_path) | wish).stdout.split()[-1]
            for wish in ({}, {"PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": cloud})]
    assert said == ["slideqc.orchestration.runners", "prefect.engine.cloud.flow_runner"]


@task
def parameters_of(_name):
    """What a task's context says of the flow run's parameters."""
    return prefect.context.parameters


@pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)
def test_a_list_of_slides_does_not_travel_with_every_task(executor):
    with Flow("parameters", executor=executor) as flow:
        seen = parameters_of.map(Parameter("names"), upstream_tasks=[unmapped(Parameter("limit", default=3))])
    lean = flow.run(names=["a", "b"])
    stock = flow.run(names=["a", "b"], runner_cls=prefect.engine.FlowRunner)
    assert lean.result[seen].result == [{"limit": 3}] * 2
    assert stock.result[seen].result == [{"limit": 3, "names": ["a", "b"]}] * 2


@task
def number(value):
    """Fails for one of them."""
    if value == 2:
        raise ValueError("two")
    return value


@task
def total(values):
    return sum(value for value in values if isinstance(value, int))


def test_threads_give_what_prefects_give():
    with Flow("threads", executor=EXECUTORS["threads"]) as flow:
        each = number.map([1, 2, 3])
        whole = total(each)
        whole.trigger = prefect.triggers.all_finished
    for state in flow.run(), flow.run(runner_cls=prefect.engine.FlowRunner):
        assert [type(one).__name__ for one in state.result[each].map_states] == ["Success", "Failed", "Success"]
        assert state.result[whole].result == 4 and state.is_successful()


seen_here = []  # a cluster runs tasks on copies of what is in this file, and so of this list


@task(state_handlers=[lambda task, old, new: seen_here.append(new) or new])
def urgency(index):
    """The priority that Dask was asked for: the smaller, the sooner."""
    if index == 2:
        raise ValueError("two")
    worker = distributed.get_worker()
    return worker.state.tasks[worker.get_current_task()].priority[0]


@task(trigger=prefect.triggers.all_finished)
def how_many(values):
    return sum(isinstance(value, int) for value in values)


def test_a_cluster_ends_a_slide_before_it_goes_on():
    """Or it would read the slides once for each step; and no worker has to be free to count them."""
    one = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with Flow("cluster", executor=DaskExecutor(cluster_kwargs=one, watch_worker_status=False)) as flow:
        urgencies = urgency.map([0, 1, 2, 3])
        counted = how_many(urgencies)
    for runner, expected, here in ((None, [0, 1, None, 3], 1), (prefect.engine.FlowRunner, [0, 0, None, 0], 0)):
        seen_here.clear()
        state = flow.run(runner_cls=runner)
        children = state.result[urgencies].map_states
        assert [None if child.is_failed() else child.result - children[0].result for child in children] == expected
        assert state.result[counted].result == 3 and state.is_successful()
        assert sum(isinstance(state, Mapped) for state in seen_here) == here


def test_runs_on_one_cluster_go_in_turn(monkeypatch):
    """A slide of a later run, the first one too, waits for those of an earlier one."""
    asked = []
    monkeypatch.setattr(DaskExecutor, "submit", lambda *_, priority, **__: asked.append(priority))
    for second in (100, 101):
        monkeypatch.setattr(runners.time, "time", lambda second=second: second)
        executor = runners.Cluster(DaskExecutor())
        for index in (None, 0, 9_999):
            executor.submit(print, extra_context={"task_index": index})
    assert asked == sorted(asked, reverse=True) and len(set(asked)) == 6


@pytest.mark.parametrize(("runner", "imported"), [("prefect.engine.FlowRunner", True), (runners.STOCK, False)])
def test_threads_look_for_no_cluster(runner, imported, tmp_path):
    """Dask's search for one takes longer than a dozen tasks. With another runner that was asked for, it takes place."""
    program = ("import sys; from prefect import Flow, Task; from prefect.executors import LocalDaskExecutor\n"
               "from slideqc.orchestration import runners; runners.use()\n"
               "flow = Flow('f', tasks=[Task()], executor=LocalDaskExecutor(scheduler='threads', num_workers=2))\n"
               "assert flow.run().is_successful(); print('distributed' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True,
                          env=environment(tmp_path) | {"PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": runner}).stdout
    assert said.split()[-1] == str(imported)
