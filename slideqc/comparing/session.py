"""The runs of a comparison, in their order, and every raw sample."""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from slideqc import flags
from slideqc.comparing import cluster_and_server, measuring
from slideqc.comparing.measuring import Measured
from slideqc.comparing.rows import ComparisonRow
from slideqc.comparing.same_files import fingerprint, first_difference
from slideqc.errors import CommandError

LIMIT = 600  # seconds, plus twenty times the seconds of the first row: after that, a run is given up
NO_BACKEND = cluster_and_server.Backend()

logger = logging.getLogger("slideqc")


@dataclass(frozen=True)
class ComparisonPlan:
    """What is to be run."""

    rows: list[ComparisonRow]     # the others are compared with the first
    slides: list[Path]
    sizes: list[int]              # of jobs, in slides: ascending, the last is all of them
    repeats: int                  # rounds
    rounds_of_all_sizes: int      # so many rounds run all sizes; the others run only the whole job
    workers: int
    flags: list[str]              # of every row: the parameters of the pipeline
    parameters: dict[str, object]
    pipeline: str                 # the module of the plain pipeline
    empty_sizes: list[int]        # slides of the empty flows
    passes: int                   # over the empty flows, and over the slides to profile

    def jobs(self, number: int) -> list[tuple[ComparisonRow, int]]:
        """What round `number` runs. In each round another row comes first."""
        sizes = self.sizes if number < self.rounds_of_all_sizes else self.sizes[-1:]
        first = number % len(self.rows)
        return [(row, size) for size in sizes for row in (*self.rows[first:], *self.rows[:first])]

    def count(self) -> int:
        """How many runs there will be, for the progress bar."""
        flows = sum(row.flow is not None for row in self.rows)
        return (len(self.rows) + len(self.sizes) - 1 + flows + 1
                + sum(len(self.jobs(number)) for number in range(self.repeats)))


@dataclass
class Session:
    """Runs a plan in a folder of its own, and keeps the samples."""

    plan: ComparisonPlan
    folder: Path
    wrong: dict[str, str] = field(default_factory=dict)         # what is wrong, by the key of the row
    samples: list[dict] = field(default_factory=list)           # every timed run
    rounds: int = 0                                             # that are finished
    empty_flows: dict[str, list[dict]] = field(default_factory=dict)  # by the key of the row
    profile: list[dict] = field(default_factory=list)
    _expected: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)  # status, files; by size of job
    _backends: dict[str | None, cluster_and_server.Backend] = field(default_factory=lambda: {None: NO_BACKEND})
    _limit: float = LIMIT

    def run(self) -> None:
        """Run the whole plan. After Ctrl-C, the samples until then are in this object."""
        plan = self.plan
        for size in plan.sizes:
            folder = self._slides(size)
            folder.mkdir(parents=True)
            for slide in plan.slides[:size]:
                _link(slide, folder / slide.name)
        with ExitStack() as running, tqdm(total=plan.count(), unit="run", disable=None, dynamic_ncols=True) as bar, \
                logging_redirect_tqdm([logging.getLogger()]):
            start = {"cluster": lambda folder: cluster_and_server.cluster(folder, plan.workers),
                     "server": cluster_and_server.server}
            for name in sorted({row.backend for row in plan.rows} - {None}):
                logger.info("starting a %s, which is not timed", name)
                self._backends[name] = running.enter_context(start[name](self.folder / name))
            self._warm_up(bar)
            for number in range(plan.repeats):
                logger.info("round %d of %d", number + 1, plan.repeats)
                for row, size in plan.jobs(number):
                    with _step(bar, f"{row.label}, {size} slides"):
                        if row.key not in self.wrong:
                            self._time(row, size, number)
                self.rounds = number + 1
            self._time_parts(bar)

    def _warm_up(self, bar: tqdm) -> None:
        """Run every row once, without timing it. The others have to leave the same files as the first row."""
        logger.info("warming up, and comparing what the rows leave, byte for byte")
        first, *others = self.plan.rows
        for size in self.plan.sizes:
            with _step(bar, f"{first.label}, {size} slides"):
                done, output = self._run(first, size)
                if done.status not in (0, 1):
                    raise CommandError(f"{first.script} cannot check these slides: {done.last_line}")
                self._expected[size] = done.status, fingerprint(output)
        self._limit = LIMIT + 20 * done.seconds
        for row in others:
            with _step(bar, f"{row.label}, warm-up"):
                self._is_right(row, size, *self._run(row, size))

    def _time(self, row: ComparisonRow, size: int, number: int) -> None:
        done, output = self._run(row, size)
        if self._is_right(row, size, done, output):
            self.samples.append({
                "round": number, "row": row.key, "slides": size, "seconds": done.seconds, "start_up": done.start_up,
                "cpu": done.cpu, "memory": done.memory, "memory_before": done.memory_before})

    def _is_right(self, row: ComparisonRow, size: int, done: Measured, output: Path) -> bool:
        """Are exit status and files those of the first row? If not, the row is not timed any more."""
        status, files = self._expected[size]
        if done.status == measuring.GIVEN_UP:
            problem = f"given up after {self._limit:.0f} s"
        elif done.status != status:
            problem = f"exit status {done.status} instead of {status}: {done.last_line}"
        else:
            problem = first_difference(files, fingerprint(output))
        if problem:
            self.wrong[row.key] = problem
            logger.error("%s is wrong: %s", row.label, problem)
        return not problem

    def _run(self, row: ComparisonRow, size: int) -> tuple[Measured, Path]:
        """Run a row on so many slides, into an empty folder."""
        backend = self._backends[row.backend]
        output = self.folder / "output" / row.key
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        command = [sys.executable, flags.HOME / row.script, "--folder", self._slides(size), "--output", output,
                   "--filetype", self.plan.slides[0].suffix, *self.plan.flags,
                   *row.flags(workers=self.plan.workers, scheduler=backend.scheduler)]
        return self._measure(command, row.key, backend), output

    def _measure(self, command: list[object], name: str, backend: cluster_and_server.Backend) -> Measured:
        with ExitStack() as suspended:
            for other in self._backends.values():
                if other is not backend:
                    suspended.enter_context(other.suspended())
            return measuring.run(command, self.folder / f"{name}.log", env=backend.env, limit=self._limit,
                                 cwd=flags.HOME, backend=backend.processes)

    def _slides(self, size: int) -> Path:
        return self.folder / "slides" / str(size)

    def _time_parts(self, bar: tqdm) -> None:
        plan = self.plan
        logger.info("timing flows without work, and the steps of the pipeline")
        for row in plan.rows:
            if row.flow:
                with _step(bar, f"{row.label}, no work"):
                    self._time_empty_flow(row)
        with _step(bar, "the steps of the pipeline"):
            self.profile = self._run_module("step_times", NO_BACKEND, {
                "module": plan.pipeline, "slides": [str(slide) for slide in plan.slides],
                "output": str(self.folder / "output" / "step_times"), "parameters": plan.parameters})

    def _time_empty_flow(self, row: ComparisonRow) -> None:
        backend = self._backends[row.backend]
        if row.key not in self.wrong:
            self.empty_flows[row.key] = self._run_module("empty_flow", backend, {
                "module": row.flow, "executor": row.executor, "workers": self.plan.workers,
                "scheduler": backend.scheduler, "sizes": self.plan.empty_sizes})

    def _run_module(self, module: str, backend: cluster_and_server.Backend, order: dict) -> list[dict]:
        """Run one of the modules that time something inside their process; returns what they measured."""
        to = self.folder / f"{module}.json"
        order |= {"passes": self.plan.passes, "to": str(to)}
        command = [sys.executable, "-m", f"slideqc.comparing.{module}", json.dumps(order)]
        done = self._measure(command, module, backend)
        if done.status:  # what was measured before is kept
            logger.error("%s failed, and its figures are missing: %s", module, done.last_line)
            return []
        return json.loads(to.read_text(encoding="utf-8"))


@contextmanager
def _step(bar: tqdm, what: str) -> Iterator[None]:
    bar.set_postfix_str(what)
    yield
    bar.update()


def _link(slide: Path, link: Path) -> None:
    """Put the slide into another folder too, without a copy if possible."""
    for make in (link.symlink_to, link.hardlink_to):
        with suppress(OSError):  # on Windows few users may make symbolic links; hard links do not cross disks
            return make(slide.resolve())
    shutil.copy2(slide, link)
