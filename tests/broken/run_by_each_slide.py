"""5: asked for 2 flow runs"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect_parallel import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, parameters={"file_names": [file_name], **pieces.given(options)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
