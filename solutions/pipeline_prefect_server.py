"""Step 2: the flow of step 1 on a server, which keeps states and logs, while an agent runs it.

    python -m workshop_server                  in a terminal of its own
    prefect agent local start                  in another
    python solutions/pipeline_prefect_server.py --folder data --wait

What changes against pipeline_prefect.py: the flow is registered with a project on the server, which gives it an id;
and instead of running the flow, the loop has a `Client` ask the server for a run of it, one a slide. This script may
end at once: the agent asks the server for work, and runs each flow run in a process of its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slideqc.console import script

from prefect import Client
from prefect.run_configs import LocalRun

from slideqc import flags
from slideqc.orchestration import servers
from slideqc.output.run import Run
from solutions.pipeline_prefect import define_flow

# Where the agent's processes find our modules, wherever the agent was started; and a run whose process dies must fall
# silent: a heartbeat of the default kind, a process of its own, would outlive it.
RUN_CONFIG = LocalRun(working_dir=str(flags.HOME), env={"PREFECT__CLOUD__HEARTBEAT_MODE": "thread"})


@script
def main(argv: list[str] | None = None) -> int:
    """Ask for a flow run for every slide of the folder; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_server(parser)
    options = parser.parse_args(argv)
    servers.check(options.project)
    flow = define_flow()
    flow.run_config = RUN_CONFIG
    run = Run.begin(options)
    client = Client()
    flow_id = flow.register(project_name=options.project)
    flow_runs = [client.create_flow_run(
        flow_id=flow_id, run_name=Path(file_name).name,
        parameters={"file_name": file_name, "output": str(options.output), **flags.parameters(options)},
    ) for file_name in run.slides]
    return servers.follow(run, flow_runs) if options.wait else servers.leave(flow_runs)


if __name__ == "__main__":
    sys.exit(main())
