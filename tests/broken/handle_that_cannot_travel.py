"""4: with LocalDaskExecutor(processes), """

from threading import Lock

from prefect import task
from prefect.executors import LocalDaskExecutor

import pipeline
import solutions.pipeline_prefect_parallel as right


@task
def load_image(file_name, image_work_size, output):
    image = pipeline.load_image(file_name, image_work_size, output)
    image.lock = Lock()
    return image


right.load_image = load_image


def define_flow():
    flow = right.define_flow()
    flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
    return flow
