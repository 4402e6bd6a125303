"""2: made its table before the agent had checked the slides"""

import sys

import pieces
from prefect import Client

from slideqc import flags
from slideqc.output.run import Run
from solutions.pipeline_prefect import define_flow


def main():
    options = flags.parser(__doc__).parse_args()
    run = Run.begin(options)
    flow = define_flow()
    flow.run_config = pieces.RUN_CONFIG
    flow.terminal_state_handler = None  # the solution's would make the table once more
    flow_id = flow.register(project_name="Image QC")
    for file_name in run.slides:
        Client().create_flow_run(flow_id=flow_id, parameters={"file_name": file_name, **pieces.given(options)})
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
