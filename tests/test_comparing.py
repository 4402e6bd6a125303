"""The parts of compare.py: statistics against numpy's, memory and CPU of known programs, clocks, pictures."""

import contextlib
import dataclasses
import sys
import time

import cv2
import numpy as np
import psutil
import pytest

from BaseImage import BaseImage
from compare import ROWS
from conftest import environment
from slideqc.comparing import (
    chart,
    cluster_and_server,
    comparison_json,
    empty_flow,
    measuring,
    session,
    slides,
    step_times,
    summary,
    tables,
)
from slideqc.comparing.same_files import first_difference
from slideqc.comparing.session import NO_BACKEND, ComparisonPlan, Session


def test_slides_of_its_own(tmp_path, monkeypatch):
    """Those of --quick, but for their number and size: made where they are missing, and kept."""
    monkeypatch.setattr(slides.flags, "DATA", tmp_path)
    monkeypatch.setattr(slides, "QUICK", 2)
    monkeypatch.setattr(slides, "QUICK_SIZE", slides.QUICK_SIZE | {"width": 512, "height": 384})
    made = slides.find(None, ".svs", None, quick=True)
    assert made == [tmp_path / "compare-quick" / f"small-{number:02}.svs" for number in (1, 2)]
    assert {BaseImage(slide).base_mag for slide in made} == {20}
    kept = made[0].stat().st_mtime_ns
    made[1].rename(tmp_path / "another")
    assert slides.find(None, ".svs", None, quick=True) == made
    assert made[0].stat().st_mtime_ns == kept
    assert made[1].read_bytes() == (tmp_path / "another").read_bytes() != made[0].read_bytes()


@pytest.mark.parametrize("expected, found, said", [
    ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, None),
    ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, "b differs"),
    ({"a": "1", "b": "2"}, {"b": "3"}, "a is missing"),
    ({"b": "2"}, {"a": "1", "b": "3"}, "a should not be there"),
    ({"results.csv": "1", "z.png": "2"}, {"results.csv": "2", "z.png": "3"}, "z.png differs"),
])
def test_the_first_difference(expected, found, said):
    assert first_difference(expected, found) == said


def test_spread_and_ratios_against_numpy():
    rng = np.random.default_rng(5)
    for number in (1, 2, 5, 8):
        one, other = rng.lognormal(size=(2, number))
        assert summary.spread(one) == pytest.approx((np.median(one), one.min(), one.max()))
        ratios = one / other
        assert summary.relative(one, other) == pytest.approx(
            (np.median(one) / np.median(other), ratios.min(), ratios.max()))


def plan_of(slides, *keys, repeats=3):
    return ComparisonPlan(rows=[row for row in ROWS if row.key in keys], slides=slides, repeats=repeats, workers=2,
                          parameters={}, passes=3)


@pytest.fixture
def known(small_slides, tmp_path):
    """A comparison of known samples; the system reports no memory, and one of the rows is wrong."""
    session = Session(plan_of(sorted(small_slides.glob("*.svs"))[:2], "python-serial", "prefect-serial", "mapped-local",
                              "server-serial"), tmp_path, rounds=3)
    for row, start_up, seconds in (("python-serial", 0.25, (2.25, 2.5, 2.75)), ("prefect-serial", 1, (5, 4, 8))):
        session.samples += [{"round": number, "row": row, "seconds": each, "start_up": start_up, "cpu": each / 2,
                             "memory": 0, "memory_before": 0} for number, each in enumerate(seconds)]
    session.wrong["mapped-local"] = "exit status 1 instead of 0: " + "x" * 100
    session.empty_flows = {"prefect-serial": [0.5, 0.25, 0.125]}
    session.profile = [{"pass": 0, "slide": "small-1.svs", **dict.fromkeys(step_times.PARTS, 0.125)}]
    return comparison_json.comparison(session, date="2026-11-27T21:00:00+0000", load=0.1, stopped=False)


def test_figures_of_known_samples(known):
    python, prefect, wrong, server = known["rows"]
    assert python["seconds"] == (2.5, 2.25, 2.75) and prefect["seconds"] == (5, 4, 8)
    assert prefect["relative"] == (2, 1.6, pytest.approx(8 / 2.75))
    assert (python["a_slide"], prefect["a_slide"]) == ((2.5 - 0.25) / 2, (5 - 1) / 2)
    assert (python["orchestration"], prefect["orchestration"]) == (None, 0.25 / 2)
    assert (python["cpu"], python["memory"]) == (1.25, 0)
    assert all(row[name] is None for row in (wrong, server) for name in ("seconds", "a_slide", "orchestration"))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.markdown(known).splitlines()
             if line.startswith("| P")]
    assert cells == [
        ["Python, serial", "2.50", "1.00", "2.25–2.75"], ["Prefect, serial", "5.00", "2.00", "4.00–8.00"],
        ["Prefect mapped: local", "wrong", "–", "–"], ["Prefect server: serial", "–", "–", "–"],
        ["Python, serial", "0.25", "1.125", "none", "0", "1.25"],
        ["Prefect, serial", "1.00", "2.000", "125.0", "0", "2.50"]]


def test_what_the_terminal_shows_fits_a_projector(known):
    """Also with a reason that is too long, and on a machine with a long name."""
    known["machine"]["processor"] = "Processor of a very long name " * 5
    shown = tables.terminal(known, details=False)
    assert max(map(len, shown.splitlines())) <= 80 and "Start-up" not in shown and "Processor" not in shown
    assert "- Prefect mapped: local is wrong, and was not timed: exit status 1 instead of 0:\n  xxx" in shown
    assert known["machine"]["processor"] in tables.markdown(known)
    details = tables.terminal(known, details=True)
    assert all(len(line) <= 80 or line.startswith("|") for line in details.splitlines())
    for line in (line for line in tables.markdown(known).splitlines() if line.startswith("|")):
        assert line in details and (line in shown) == (line.count("|") == 5)


def test_how_long_it_will_take():
    first = measuring.Measured(status=0, seconds=1.5, start_up=0.25, cpu=1, memory=0, memory_before=0, last_line="")
    one, all_rows = plan_of([], "python-serial", repeats=2), plan_of([], *(row.key for row in ROWS), repeats=2)
    assert one.count() == 1 + 2 + 1 and all_rows.count() == 9 * 3 + 5 + 1
    assert one.estimate(first) == "10 s", "of three runs after the first"
    slow = dataclasses.replace(first, seconds=15)
    minutes = (32 * (15 + session.PREFECT * 0.25) + 6 * session.SERVER) / 60
    assert all_rows.estimate(slow) == f"{minutes:.0f} min", "six runs wait for an agent"


def test_doubts_are_told_in_words():
    calm = {"A": [1.0, 1.01, 1.02], "B": [2.0, 2.01, 2.02]}
    assert summary.doubts(calm, load=0.1, cpus=2) == []
    (busy,) = summary.doubts(calm, load=3, cpus=2)
    assert "busy" in busy and "3.0 on 2 CPUs" in busy
    (few,) = summary.doubts({"A": [1.0]}, load=0, cpus=2)
    assert few.startswith("1 round only")
    (noisy,) = summary.doubts({"A": [1, 1, 1], "B": [2, 2.5, 2.65], "C": [5, 5, 9]}, load=0, cpus=2)
    assert noisy.startswith("Too noisy to rank") and noisy.endswith(": B (26%); C (80%).")
    (close,) = summary.doubts({"slow": [1.05, 1.06, 1.1], "fast": [1.0, 1.04, 1.07], "slower": [1.08, 1.09, 1.1],
                               "slowest": [5, 5, 5]}, load=0, cpus=2)
    assert close.startswith("Not to be told apart") and close.endswith(": fast and slow; slow and slower.")


def test_memory_and_cpu_are_of_the_whole_family(tmp_path):
    """A parent and its child hold 60 MB each, and burn 0.3 s of CPU each."""
    program = ("import subprocess, sys, time\nprint('here', flush=True)\n"
               "child = len(sys.argv) < 2 and subprocess.Popen([sys.executable, __file__, 'child'])\n"
               "held = bytearray(b'x') * 60_000_000\n"
               "while time.process_time() < 0.3: pass\n"
               "time.sleep(2)\nchild and child.wait()\n")
    (tmp_path / "program.py").write_text(program)
    done = measuring.run([sys.executable, tmp_path / "program.py"], tmp_path / "log", env=environment(tmp_path),
                         limit=100, cwd=tmp_path)
    assert done.status == 0 and done.memory_before == 0 and done.last_line == "here"
    assert 120e6 < done.memory < 200e6 and 0.6 <= done.cpu < done.seconds * 2 and done.start_up < done.seconds


def test_a_run_that_takes_too_long_is_ended_with_its_children(tmp_path):
    program = ("import subprocess, sys, time\n"
               "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
               "print(child.pid, flush=True)\ntime.sleep(600)\n")
    done = measuring.run([sys.executable, "-c", program], tmp_path / "log", env=environment(tmp_path), limit=2,
                         cwd=tmp_path)
    assert done.status == measuring.GIVEN_UP
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.last_line)).wait(timeout=30)


def test_ctrl_c_as_a_run_begins(tmp_path, monkeypatch):
    """The process has been started, and the threads that watch it have not."""
    def interrupted(thread):
        raise KeyboardInterrupt
    monkeypatch.setattr(measuring.threading.Thread, "start", interrupted)
    program = f"import time; time.sleep(600)  # {tmp_path}"
    with pytest.raises(KeyboardInterrupt):
        measuring.run([sys.executable, "-c", program], tmp_path / "log", env=environment(tmp_path), limit=100,
                      cwd=tmp_path)
    assert not [child for child in psutil.Process().children() if program in child.cmdline()]


def test_the_clock_stops_with_the_script(tmp_path):
    """A child process of the script may write for a while after it: that is waited for, and not timed."""
    child = ("import os, psutil, time\nwhile psutil.pid_exists(int(os.environ['PARENT'])): time.sleep(0.01)\n"
             "time.sleep(1)\nprint(1)\n")
    program = ("import os, subprocess, sys\nprint('here', flush=True)\nos.environ['PARENT'] = str(os.getpid())\n"
               f"subprocess.Popen([sys.executable, '-c', {child!r}])\n")
    began = time.perf_counter()
    done = measuring.run([sys.executable, "-c", program], tmp_path / "log", env=environment(tmp_path), limit=100,
                         cwd=tmp_path)
    assert done.status == 0 and done.last_line == "1"
    assert done.start_up < done.seconds < time.perf_counter() - began - 1


def test_a_cluster_stands_still_while_other_rows_are_timed(tmp_path):
    with cluster_and_server.cluster(tmp_path / "cluster", workers=1) as cluster:
        session = Session(None, tmp_path)
        session._backends["cluster"] = cluster
        pids = [process.pid for process in cluster.processes]
        look = [sys.executable, "-c", f"import psutil; print(*(psutil.Process(pid).status() for pid in {pids}))"]
        alone, together = (session._measure(look, "look", backend).last_line for backend in (NO_BACKEND, cluster))
    assert alone == "stopped stopped" and "stopped" not in together


def test_an_emptied_flow_runs_every_task_and_does_no_work():
    from solutions import pipeline_prefect, pipeline_prefect_parallel
    serial, mapped = (empty_flow.empty(module.define_flow())
                      for module in (pipeline_prefect, pipeline_prefect_parallel))
    assert serial.run(file_name="no-such-slide.svs").is_successful()
    state = mapped.run(file_names=["a.svs", "b.svs", "c.svs"])
    assert state.is_successful() and len(state.result[mapped.get_tasks("save_result")[0]].map_states) == 3
    runs = empty_flow.run({"module": "solutions.pipeline_prefect", "executor": None, "slides": 2, "passes": 2})
    assert len(runs) == 2 and min(runs) > 0


def test_a_clock_stands_while_another_runs(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: next(now))
    timer = step_times.PartTimer()                              # 0
    inner = timer.timed("write", lambda: None)                  # from its start to its end: 1
    timer.timed("draw", lambda: (inner(), inner()))()           # 1 before, 1 between, 1 after
    timer.add_elapsed()                                         # rest: 1 before and 1 after
    assert timer.seconds == {"rest": 2, "draw": 3, "write": 2}


def drawn(*seconds, wrong=None):
    rows = [{"label": f"row {number}", "kind": kind, "seconds": [each, each * 0.9, each * 1.1], "wrong": None,
             "relative": [each / seconds[0]] * 3, "start_up": [each / 2] * 3}
            for number, (each, kind) in enumerate(zip(seconds, ["python", "prefect", "server"], strict=False))]
    if wrong:
        rows.append({"label": "another", "kind": "prefect", "seconds": None, "wrong": wrong})
    png = chart.draw({"rows": rows, "slides": {"number": 16}, "rounds": 5, "workers": 2})
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("seconds, wrong", [((6, 4, 9), None), ((1, 3, 80), None), ((6,), "results.csv differs"),
                                            ((), "exit status 3")])
def test_pictures_of_every_kind(seconds, wrong):
    pixels = drawn(*seconds, wrong=wrong)
    assert pixels.shape[1] == 1920 and pixels.std() > 10


def test_a_table_without_rows():
    assert "|" in tables.table(["", "seconds"], [])
