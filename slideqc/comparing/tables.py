"""The comparison in words and tables: comparison.md, ready to paste, and what the terminal shows, for a projector."""

import textwrap

from slideqc.comparing.step_times import PARTS
from slideqc.comparing.summary import count

NONE = "–"
COLUMNS = 80  # of a terminal that can be read from the last row


def markdown(comparison: dict) -> str:
    """What comparison.md holds: two tables, what they mean, what not to trust, and the machine."""
    slides, machine = comparison["slides"], comparison["machine"]
    width, height = slides["largest"]
    facts = (f"{comparison['date'][:10]} · {count(slides['number'], 'slide')} of up to {width}×{height} px, "
             f"{slides['bytes'] / 1e6:.0f} MB, in {slides['folder']} · {machine['processor']}, "
             f"{count(machine['cpus_usable'], 'CPU')}, {machine['memory'] / 2**30:.0f} GB, {machine['system']}, "
             f"load before the start {machine['load']:.2f} · "
             + ", ".join(" ".join(each) for each in comparison["versions"].items()))
    return "\n\n".join([*_blocks(comparison, details=True), facts]) + "\n"


def terminal(comparison: dict, details: bool) -> str:
    """What the terminal shows: the same without the machine, and in short; only the second table may be wide."""
    return "\n".join(line if line.startswith("|") else textwrap.fill(
        line, COLUMNS, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)
        for line in "\n\n".join(_blocks(comparison, details)).splitlines())


def _blocks(comparison: dict, details: bool) -> list[str]:
    """The parts that both have."""
    stopped = f", of {comparison['asked']} asked for: stopped before the end" if comparison["stopped"] else ""
    beware = [f"{row['label']} is wrong, and was not timed: {row['wrong']}"
              for row in comparison["rows"] if row["wrong"]] + comparison["doubts"]
    return [
        f"{count(comparison['slides']['number'], 'slide')}, {count(comparison['workers'], 'worker')}, median of "
        f"{count(comparison['rounds'], 'interleaved round')}{stopped}. Each row ran as a whole process, and left the "
        "same files, byte for byte, as the first.",
        _times(comparison["rows"]),
        *(["Where the time goes:", _causes(comparison["rows"]), *_sentences(comparison)] if details else []),
        *(["Beware:", "\n".join(f"- {each}" for each in beware)] if beware else []),
    ]


def _times(rows: list[dict]) -> str:
    body = []
    for row in rows:
        if row["seconds"]:
            median, low, high = row["seconds"]
            body.append([row["label"], f"{median:.2f}", f"{row['relative'][0]:.2f}" if row["relative"] else NONE,
                         f"{low:.2f}–{high:.2f}"])
        else:
            body.append([row["label"], "wrong" if row["wrong"] else NONE, NONE, NONE])
    return table(["", "seconds", "× Python", "fastest–slowest"], body)


def _causes(rows: list[dict]) -> str:
    head = ["", "start-up, s", "a slide, s", "orchestration a slide, ms", "memory, MB", "CPU, s"]
    return table(head, [[
        row["label"], f"{row['start_up'][0]:.2f}", f"{row['a_slide']:.3f}",
        "none" if row["kind"] == "python" else
        NONE if row["orchestration"] is None else f"{1000 * row['orchestration']:.1f}",
        f"{row['memory'] / 1e6:.0f}", f"{row['cpu']:.2f}",
    ] for row in rows if row["seconds"]])


def _sentences(comparison: dict) -> list[str]:
    """How to read the second table."""
    said = ["Start-up is the time to a script's first line: Python, its imports, the flags, the list of slides. "
            "A slide is the rest of the time, divided by the slides. Orchestration is the same flow with nothing in "
            "its tasks, so what states, logs and handing on cost. Memory and CPU are of all processes, also of those "
            "of the cluster or the server, which hold some before a run begins."]
    if any(row["kind"] == "server" for row in comparison["rows"]):
        said.append("A row through the server also waits for the agent, which after a quiet time looks for work every "
                    "ten seconds, and for the script, which looks for the ends of its runs every second.")
    if comparison["pixels"]:
        whole = sum(comparison["pixels"].values())
        said.append(f"The pixels of a slide, in one process: {1000 * whole:.0f} ms, of it " + ", ".join(
            f"{part} {1000 * seconds:.0f} ms ({seconds / whole:.0%})"
            for part in PARTS for seconds in [comparison["pixels"][part]]) + ".")
    return said


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    from tabulate import tabulate
    return tabulate(body, head, tablefmt="github", disable_numparse=True,
                    colalign=("left", *["right"] * (len(head) - 1)) if body else None)
