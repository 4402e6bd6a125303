"""1: a Parameter called blur_treshold, and none called blur_threshold"""

from pieces import measure, parameters, rescan
from prefect import Flow, Parameter


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters(blur_threshold=Parameter("blur_treshold", default=0.05))
        image, _, percent_blurry = measure(p)
        rescan(image, percent_blurry, p.blur_max)
    return flow
