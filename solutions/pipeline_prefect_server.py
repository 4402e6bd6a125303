"""Step 2: the flow of step 1 on a server, which stores states and logs. An agent runs the flow.

    python -m workshop_server                  in a second terminal
    prefect agent local start                  in a third terminal
    python solutions/pipeline_prefect_server.py --folder data --wait

What changes from pipeline_prefect.py:

- The flow is registered in a project of the server, and gets an id.
- The loop does not run the flow. For each slide, a `Client` creates a flow run on the server.

The agent asks the server for flow runs, and runs each in a separate process. So this script may end before they do.
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

# The working folder makes our modules importable, wherever the agent was started. The heartbeat must stop when the
# process of the run dies: by default it is a separate process, and would continue.
RUN_CONFIG = LocalRun(working_dir=str(flags.HOME), env={"PREFECT__CLOUD__HEARTBEAT_MODE": "thread"})


@script
def main(argv: list[str] | None = None) -> int:
    """Submit one flow run for each slide of the folder; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_server(parser)
    options = parser.parse_args(argv)
    servers.check(options.project)
    flow = define_flow()
    flow.run_config = RUN_CONFIG
    run = Run.begin(options)
    client = Client()
    flow_id = flow.register(project_name=options.project)
    ids = []
    for file_name in run.slides:
        ids.append(client.create_flow_run(
            flow_id=flow_id, run_name=Path(file_name).name,
            parameters={"file_name": file_name, "output": str(options.output), **flags.parameters(options)}))
    return servers.wait_for_runs(run, ids) if options.wait else servers.print_address(ids)


if __name__ == "__main__":
    sys.exit(main())
