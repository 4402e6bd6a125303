"""2: stopped in line 14: client.create_flow_run() was given no value for file_name"""

import sys

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for _ in slides:
        Client().create_flow_run(flow_id=flow_id, parameters=pieces.given(options))


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
