"""The runs of a comparison, in their order, and every raw sample."""

import json
import logging
import math
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
PREFECT = 5  # start-ups of plain Python that the imports and the states of Prefect take, on average of all runs
SERVER = 10  # seconds that a run through a server waits for the agent
FIGURES = ("seconds", "start_up", "cpu", "memory", "memory_before")  # of each run
NO_BACKEND = cluster_and_server.Backend()

logger = logging.getLogger("slideqc")


@dataclass(frozen=True)
class ComparisonPlan:
    """What is to be run."""

    rows: list[ComparisonRow]      # the others are compared with the first
    slides: list[Path]
    repeats: int                   # rounds
    workers: int
    parameters: dict[str, object]  # of the pipeline
    passes: int                    # over the empty flows, and over the slides to profile

    def round(self, number: int) -> list[ComparisonRow]:
        """The rows in the order of round `number`: in each, another row comes first."""
        first = number % len(self.rows)
        return [*self.rows[first:], *self.rows[:first]]

    def count(self) -> int:
        """How many runs there will be: a warm-up, the rounds, the empty flows, the steps of the pipeline."""
        return len(self.rows) * (1 + self.repeats) + sum(row.flow is not None for row in self.rows) + 1

    def estimate(self, first: Measured) -> str:
        """About how long will the runs take that are left after `first`, the warm-up of the first row?"""
        waits = sum(row.backend == "server" for row in self.rows) * (1 + self.repeats)
        seconds = (self.count() - 1) * (first.seconds + PREFECT * first.start_up) + waits * SERVER
        return f"{seconds / 60:.0f} min" if seconds >= 180 else f"{10 * math.ceil(seconds / 10)} s"


@dataclass
class Session:
    """Runs a plan in a folder of its own, and keeps the samples."""

    plan: ComparisonPlan
    folder: Path
    wrong: dict[str, str] = field(default_factory=dict)         # what is wrong, by the key of the row
    samples: list[dict] = field(default_factory=list)           # every timed run
    rounds: int = 0                                             # that are finished
    empty_flows: dict[str, list[float]] = field(default_factory=dict)  # by the key of the row
    profile: list[dict] = field(default_factory=list)
    _expected: tuple[int, dict[str, str]] | None = None         # status and files of the first row
    _backends: dict[str | None, cluster_and_server.Backend] = field(default_factory=lambda: {None: NO_BACKEND})
    _limit: float = LIMIT

    def run(self) -> None:
        """Run the whole plan. After Ctrl-C, the samples until then are in this object."""
        plan = self.plan
        (self.folder / "slides").mkdir()
        for slide in plan.slides:
            _link(slide, self.folder / "slides" / slide.name)
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
                for row in plan.round(number):
                    with _step(bar, row.label):
                        if row.key not in self.wrong:
                            self._time(row, number)
                self.rounds = number + 1
            self._time_parts(bar)

    def _warm_up(self, bar: tqdm) -> None:
        """Run every row once, without timing it. The others have to leave the same files as the first row."""
        logger.info("warming up, and comparing what the rows leave, byte for byte")
        first, *others = self.plan.rows
        with _step(bar, f"{first.label}, warm-up"):
            done, output = self._run(first)
            if done.status not in (0, 1):
                raise CommandError(f"{first.script} cannot check these slides: {done.last_line}")
            self._expected = done.status, fingerprint(output)
        self._limit = LIMIT + 20 * done.seconds
        logger.info("%d runs: about %s on this machine", self.plan.count(), self.plan.estimate(done))
        for row in others:
            with _step(bar, f"{row.label}, warm-up"):
                self._is_right(row, *self._run(row))

    def _time(self, row: ComparisonRow, number: int) -> None:
        done, output = self._run(row)
        if self._is_right(row, done, output):
            self.samples.append({"round": number, "row": row.key, **{name: getattr(done, name) for name in FIGURES}})

    def _is_right(self, row: ComparisonRow, done: Measured, output: Path) -> bool:
        """Are exit status and files those of the first row? If not, the row is not timed any more."""
        status, files = self._expected
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

    def _run(self, row: ComparisonRow) -> tuple[Measured, Path]:
        """Run a row on all slides, into an empty folder."""
        backend = self._backends[row.backend]
        output = self.folder / "output" / row.key
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        parameters = [f"--{name.replace('_', '-')}={value}" for name, value in self.plan.parameters.items()]
        command = [sys.executable, flags.HOME / row.script, "--folder", self.folder / "slides", "--output", output,
                   "--filetype", self.plan.slides[0].suffix, *parameters,
                   *row.flags(workers=self.plan.workers, scheduler=backend.scheduler)]
        return self._measure(command, row.key, backend), output

    def _measure(self, command: list[object], name: str, backend: cluster_and_server.Backend) -> Measured:
        with ExitStack() as suspended:
            for other in self._backends.values():
                if other is not backend:
                    suspended.enter_context(other.suspended())
            return measuring.run(command, self.folder / f"{name}.log", env=backend.env, limit=self._limit,
                                 cwd=flags.HOME, backend=backend.processes)

    def _time_parts(self, bar: tqdm) -> None:
        plan = self.plan
        logger.info("timing flows without work, and the steps of the pipeline")
        for row in filter(lambda row: row.flow, plan.rows):
            with _step(bar, f"{row.label}, no work"):
                if row.key not in self.wrong:
                    backend = self._backends[row.backend]
                    self.empty_flows[row.key] = self._run_module("empty_flow", backend, {
                        "module": row.flow, "executor": row.executor, "workers": plan.workers,
                        "scheduler": backend.scheduler, "slides": len(plan.slides)})
        with _step(bar, "the steps of the pipeline"):
            self.profile = self._run_module("step_times", NO_BACKEND, {
                "slides": [str(slide) for slide in plan.slides], "parameters": plan.parameters,
                "output": str(self.folder / "output" / "step_times")})

    def _run_module(self, module: str, backend: cluster_and_server.Backend, order: dict) -> list:
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
