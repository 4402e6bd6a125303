"""2: the flow run a was given no image_work_size, though the script was called with"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, run_name="a", parameters={
            "file_name": file_name, "output": str(options.output)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
