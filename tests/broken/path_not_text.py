"""2: client.create_flow_run() was given a PosixPath, and what goes to the server goes as JSON"""

import sys
from pathlib import Path

import pieces
from prefect import Client

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, parameters=pieces.given(options) | {"file_name": Path(file_name)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
