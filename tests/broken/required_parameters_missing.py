"""1: flow.run() was not given blur_max"""

import sys

import pieces
from prefect import Flow, Parameter

from solutions.pipeline_prefect import save_result


def define_flow():
    with Flow("Check one slide") as flow:
        p = pieces.parameters(blur_max=Parameter("blur_max"))
        image, result, percent_blurry = pieces.measure(p)
        too_blurry = pieces.rescan(image, percent_blurry, p.blur_max)
        save_result(image, p.image_work_size, result, percent_blurry, too_blurry)
    return flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name)


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
