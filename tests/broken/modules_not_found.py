"""2: the process that the agent started finds no module"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow.run_config = None
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, parameters={"file_name": file_name, **pieces.given(options)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
