"""1: the task load_image is called outside a flow"""

from prefect import Flow

from solutions.pipeline_prefect import load_image, tissue_segmentation_simple


def define_flow():
    with Flow("Check one slide") as flow:
        pass

    image = load_image("slide.svs", "1.25x")
    tissue_segmentation_simple(image, "1.25x")
    return flow
