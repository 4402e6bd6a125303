"""5: was given file_names="['data/partly-blurry.svs'"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect_parallel import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    Client().create_flow_run(flow_id=flow_id, parameters={"file_names": str(slides), **pieces.given(options)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
