"""Why a flow run still waits, and the command that helps."""

import sqlalchemy as sa

from workshop_server.runs.agent_queue import labels_match
from workshop_server.runs.agents import is_alive
from workshop_server.ui import reader_times

PATIENCE = 20  # seconds after its time before a run counts as late: an agent polls every 10 s
START = "prefect agent local start"


def is_late(run: sa.Row, clock: reader_times.ReaderClock) -> bool:
    """Should an agent have taken the run by now?"""
    return clock.since(run.scheduled_start_time) > PATIENCE


def reason(labels: list[str], known: list[sa.Row]) -> tuple[str, str]:
    """What a run with these labels waits for, and the command that helps; "" if no command is needed."""
    alive = [agent for agent in known if is_alive(agent)]
    wanted = set(labels or [])
    command = " ".join([START, *(f"--label {_quoted(label)}" for label in sorted(wanted))])
    if not alive:
        return "No agent is running, so nothing takes this run. In another terminal:", command
    if any(labels_match(labels, agent.labels) for agent in alive):
        return "An agent with fitting labels is running and will take it within seconds.", ""
    if not wanted:
        return ("This run has no labels, and an agent with labels leaves it alone. Start an agent without any, or run "
                "the flow with labels of an agent:", f"{START} --no-hostname-label")
    return (f"No running agent has {'all the labels' if len(wanted) > 1 else 'the label'} of this run: "
            f"{', '.join(sorted(wanted))}. In another terminal:", command)


def _quoted(label: str) -> str:
    return label if label.replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{label}'"
