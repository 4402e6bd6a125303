"""Why a flow run still waits, and what to type about it."""

import sqlalchemy as sa

from workshop_server.ui import reader_times

PATIENCE = 20   # seconds after its time before a run counts as late: an agent asks every 10 s
HEALTHY = 60    # seconds since its last word, within which an agent counts as alive
STALE = 24 * 3600  # seconds without a word, after which agents can be removed all at once
START = "prefect agent local start"


def is_alive(agent: sa.Row, clock: reader_times.Clock) -> bool:
    return bool(agent.last_queried) and clock.since(agent.last_queried) < HEALTHY


def is_late(run: sa.Row, clock: reader_times.Clock) -> bool:
    """Should an agent have taken the run by now?"""
    return clock.since(run.scheduled_start_time) > PATIENCE


def reason(labels: list[str], agents: list[sa.Row], clock: reader_times.Clock) -> tuple[str, str]:
    """What the run waits for, and the command that helps, "" where none is needed."""
    alive = [agent for agent in agents if is_alive(agent, clock)]
    wanted = set(labels or [])
    command = " ".join([START, *(f"--label {_quoted(label)}" for label in sorted(wanted))])
    if not alive:
        return "No agent is running, so nothing takes this run. In another terminal:", command
    if any(wanted <= set(agent.labels or []) and (wanted or not agent.labels) for agent in alive):
        return "An agent with fitting labels is running and will take it within seconds.", ""
    if not wanted:
        return ("This run has no labels, and an agent with labels leaves it alone. Start an agent without any, or run "
                "the flow with labels of an agent:", f"{START} --no-hostname-label")
    return (f"No running agent has {'all the labels' if len(wanted) > 1 else 'the label'} of this run: "
            f"{', '.join(sorted(wanted))}. In another terminal:", command)


def _quoted(label: str) -> str:
    return label if label.replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{label}'"
