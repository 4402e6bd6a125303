"""How long a flow run takes, from the request for it to Success, and how much of that is the server's own work.

    python tests/server/run_time.py [--database URL] [--runs 5]

The flow is that of solutions/pipeline_prefect_server.py, over one small slide; the agent is a stock one, and so are the
intervals at which it and the flow run's process ask the server.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil

from harness import HOME, Agent, RunningServer, until

SLIDE = ("from pathlib import Path; from slideqc.slides.generate import write_slide; "
         "write_slide(Path({!r}), width=2048, height=1536, magnification=20, seed=1)")
STOCK = ("PREFECT__CLOUD__LOGGING_HEARTBEAT", "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL")  # as users leave them
ROW = "{:>5} {:>11} {:>11} {:>11} {:>9} {:>14}"


class Stock(RunningServer):
    """A server whose clients have the intervals that Prefect comes with."""

    def environment(self, home: Path | None = None) -> dict[str, str]:
        return {name: text for name, text in super().environment(home).items() if name not in STOCK}


def measure(server: RunningServer, flow_id: str, parameters: dict) -> tuple[list[float], float]:
    """Make one run. Seconds: in the queue, until its process works, at work, together; and of the server's CPU."""
    process = psutil.Process(server.process.pid)
    before = process.cpu_times()
    made = server.ask("mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }",
                      {"input": {"flow_id": flow_id, "parameters": parameters}})
    asked = (f'{{flow_run_by_pk(id: "{made["create_flow_run"]["id"]}") '
             "{created state states(order_by: {id: asc}) {state timestamp}}}")

    run = {"state": None}
    while run["state"] not in ("Success", "Failed"):
        time.sleep(1)  # each look costs the server time that is not the run's
        run = server.ask(asked)["flow_run_by_pk"]
    after = process.cpu_times()
    at = {each["state"]: _seconds(each["timestamp"]) for each in run["states"]}
    assert run["state"] == "Success", run
    points = [_seconds(run["created"]), at["Submitted"], at["Running"], at["Success"]]
    steps = [end - start for start, end in pairwise(points)]
    return [*steps, sum(steps)], after.user + after.system - before.user - before.system


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def main(argv: list[str] | None = None) -> int:
    """Print a line for each run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="a file, or postgresql://… (a new SQLite file)")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="run-time-") as name:
        home = Path(name)
        (folder := home / "slides").mkdir()
        subprocess.run([sys.executable, "-c", SLIDE.format(str(folder / "small.svs"))], cwd=HOME, check=True)
        server = Stock(home, database=options.database)
        agent = None
        try:
            assert server.prefect("create", "project", "Image QC").returncode == 0
            # Registers the flow, and makes a run, for which nobody waits.
            done = server.python(HOME / "solutions" / "pipeline_prefect_server.py", "--folder", folder)
            assert done.returncode == 0, done.stderr
            (first,) = server.ask("{flow_run {id flow_id parameters}}")["flow_run"]
            server.ask(f'mutation {{cancel_flow_run(input: {{flow_run_id: "{first["id"]}"}}) {{state}}}}')
            agent = Agent(server)
            until(lambda: "Waiting for flow runs" in agent.said(), "the agent is there")
            print(ROW.format("", "in queue", "starting", "at work", "together", "server's share"))
            found = []
            for number in range(options.runs):
                steps, cpu = measure(server, first["flow_id"], first["parameters"])
                found.append((steps[3], cpu / steps[3]))
                print(ROW.format(number + 1, *(f"{step:.1f} s" for step in steps), f"{cpu / steps[3]:.1%}"), flush=True)
                time.sleep(1)
            print(f"median {statistics.median(took for took, _ in found):.1f} s, the server's share "
                  f"{statistics.median(share for _, share in found):.1%}")
        finally:
            if agent:
                agent.stop()
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
