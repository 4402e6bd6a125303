"""2: asked for runs for sharp.svs, and for none for partly-blurry.svs"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        parameters = {"file_name": file_name, **pieces.given(options)}
    Client().create_flow_run(flow_id=flow_id, parameters=parameters)


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
