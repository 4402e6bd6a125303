"""5: registered a flow without an executor"""

import sys

import pieces
from prefect import Client
from prefect.executors import LocalDaskExecutor

from solutions.pipeline_prefect_parallel import define_flow


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    flow.executor = LocalDaskExecutor(scheduler="threads")  # too late
    Client().create_flow_run(flow_id=flow_id, parameters={"file_names": slides, **pieces.given(options)})


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
