"""2: registered 2 flows: each is a new version, and takes the place of the one before"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    for file_name in slides:
        flow_id = flow.register(project_name="Image QC")
        Client().create_flow_run(flow_id=flow_id, parameters={"file_name": file_name, **pieces.given(options)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
