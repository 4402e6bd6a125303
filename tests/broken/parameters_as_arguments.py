"""1: define_flow asks for file_name"""

from pieces import measure, parameters, rescan
from prefect import Flow


def define_flow(file_name):
    with Flow("Check one slide") as flow:
        p = parameters(file_name=file_name)
        image, _, percent_blurry = measure(p)
        rescan(image, percent_blurry, p.blur_max)
    return flow
