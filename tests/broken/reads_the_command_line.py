"""2: I ran the flow with an agent; load_image failed: IndexError: list index out of range"""

import sys

import pieces
from prefect import Client, task

import pipeline
import solutions.pipeline_prefect as right


@task
def load_image(file_name, image_work_size, output):
    return pipeline.load_image(file_name, image_work_size, sys.argv[4])


def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, parameters={"file_name": file_name, **pieces.given(options)})


right.load_image = load_image
define_flow = right.define_flow

if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
