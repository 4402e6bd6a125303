"""comparison.json: what was run, on which machine, every raw sample, and the statistics of the samples.

Seconds are wall-clock time unless they say CPU; memory is in bytes; a spread is [median, least, greatest].

schema            2
date              when it began, ISO 8601
rounds, asked     finished, and asked for; statistics are of finished rounds
stopped           was it stopped by Ctrl-C?
workers           of the parallel rows
slides            folder, number, bytes, largest (width and height in pixels)
parameters        of the pipeline
machine           system, processor, cpus, cpus_usable, memory, load: the load average of the minute before the start
versions          of Python and of the libraries that do the work
rows              key, label, kind, script, flags, wrong: null, or what is wrong; then, each null if not measured:
    seconds       of all slides                spread
    relative      to the first row             ratio of the medians; least and greatest of the rounds
    start_up      to the first line of output  spread
    cpu           seconds of CPU               median
    memory        the peak of all runs
    a_slide       seconds                      median of seconds, less that of start_up, divided by the slides
    orchestration seconds a slide              median of the flow without work, divided by the slides
pixels            seconds a slide in one process: mean of read, tissue, blur, draw, write, rest
doubts            sentences about what not to trust
samples           every timed run: round (from 0), row, seconds, start_up, cpu, memory, memory_before: held by the
                  cluster or the server before the run, a part of memory
empty_flows       by row, of each pass: seconds of the flow without work, for all slides
profile           pass, slide, and the seconds of each part
"""

import math
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

import psutil

from slideqc import flags
from slideqc.comparing import slides, summary
from slideqc.comparing.rows import ComparisonRow
from slideqc.comparing.session import Session
from slideqc.comparing.step_times import PARTS
from slideqc.output.run import LIBRARIES
from slideqc.slides.reading import read_facts

SCHEMA = 2


def comparison(session: Session, *, date: str, load: float, stopped: bool) -> dict:
    """The content of comparison.json; `date` and `load` are from before the start."""
    plan = session.plan
    finished = [sample for sample in session.samples if sample["round"] < session.rounds]
    samples = {row.key: [sample for sample in finished if sample["row"] == row.key] for row in plan.rows}
    rows = [_row(row, session, samples) for row in plan.rows]
    seconds = {row["label"]: [sample["seconds"] for sample in samples[row["key"]]] for row in rows if row["seconds"]}
    return {
        "schema": SCHEMA, "date": date, "rounds": session.rounds, "asked": plan.repeats, "stopped": stopped,
        "workers": plan.workers, "parameters": plan.parameters, "rows": rows,
        "slides": {"folder": slides.shown(plan.slides[0].parent), "number": len(plan.slides),
                   "bytes": sum(slide.stat().st_size for slide in plan.slides),
                   "largest": max((read_facts(slide).level_dimensions[0] for slide in plan.slides), key=math.prod)},
        "machine": {"system": platform.platform(), "processor": _processor(), "cpus": os.cpu_count(),
                    "cpus_usable": flags.cpus(), "memory": psutil.virtual_memory().total, "load": round(load, 2)},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES},
                     "distributed": version("distributed")},
        "pixels": {part: statistics.mean(each[part] for each in session.profile) for part in PARTS}
        if session.profile else None,
        "doubts": summary.doubts(seconds, load, flags.cpus()),
        "samples": session.samples, "empty_flows": session.empty_flows, "profile": session.profile,
    }


def _row(row: ComparisonRow, session: Session, samples: dict[str, list[dict]]) -> dict:
    """The statistics of one row; `samples` are those of the finished rounds, by row."""
    first, wrong = session.plan.rows[0].key, session.wrong.get(row.key)
    facts = {"key": row.key, "label": row.label, "kind": row.kind, "script": row.script,
             "flags": " ".join(row.flags(workers=session.plan.workers, scheduler="tcp://…")), "wrong": wrong}
    mine, number = samples[row.key], len(session.plan.slides)
    if wrong or not mine:
        return facts | dict.fromkeys(("seconds", "relative", "start_up", "cpu", "memory", "a_slide", "orchestration"))
    of_runs = [sample["seconds"] for sample in mine]
    seconds, start_up = summary.spread(of_runs), summary.spread([sample["start_up"] for sample in mine])
    empty = session.empty_flows.get(row.key)
    return facts | {
        "seconds": seconds,
        "relative": None if first in session.wrong else
        summary.relative(of_runs, [sample["seconds"] for sample in samples[first]]),
        "start_up": start_up, "cpu": statistics.median(sample["cpu"] for sample in mine),
        "memory": max(sample["memory"] for sample in mine), "a_slide": (seconds.median - start_up.median) / number,
        "orchestration": statistics.median(empty) / number if empty else None}


def _processor() -> str:
    """The name of the processor, if the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpuinfo.read_text(encoding="utf-8").splitlines()
             if line.startswith("model name")] if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
