"""2: was called with --wait, and ended before the flow runs had"""

import sys

import pieces
from prefect import Client

from slideqc import flags
from slideqc.orchestration import servers
from slideqc.output.run import Run
from solutions.pipeline_prefect import define_flow


def main():
    parser = flags.parser(__doc__)
    flags.add_server(parser)
    options = parser.parse_args()
    run = Run.begin(options)
    flow = define_flow()
    flow.run_config = pieces.RUN_CONFIG
    flow_id = flow.register(project_name=options.project)
    return servers.print_address([Client().create_flow_run(flow_id=flow_id, parameters={
        "file_name": file_name, **pieces.given(options)}) for file_name in run.slides])


if __name__ == "__main__":
    sys.exit(main())
