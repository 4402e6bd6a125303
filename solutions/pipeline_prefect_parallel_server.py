"""Step 5: the mapped flow on a server. The server's pages show the run: its schematic and its timeline.

    python solutions/pipeline_prefect_parallel_server.py --folder data --workers 2 --wait

What changes from pipeline_prefect_server.py: the flow is the mapped one, and it is registered with its executor.
Instead of the loop, one flow run gets all slides.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slideqc.console import script

from prefect import Client

from slideqc import flags
from slideqc.orchestration import servers
from slideqc.output.run import Run
from solutions.pipeline_prefect_parallel import choose_executor, define_flow
from solutions.pipeline_prefect_server import RUN_CONFIG


@script
def main(argv: list[str] | None = None) -> int:
    """Submit one flow run for all slides of the folder; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_server(parser)
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    servers.check(options.project)
    flow = define_flow()
    flow.run_config = RUN_CONFIG
    flow.executor = choose_executor("threads", options.workers, None)
    run = Run.begin(options)
    client = Client()
    flow_id = flow.register(project_name=options.project)
    parameters = {"file_names": run.slides, "output": str(options.output), **flags.parameters(options)}
    ids = [client.create_flow_run(flow_id=flow_id, run_name=options.folder.resolve().name, parameters=parameters)]
    return servers.wait_for_runs(run, ids) if options.wait else servers.print_address(ids)


if __name__ == "__main__":
    sys.exit(main())
