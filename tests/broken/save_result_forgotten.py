"""1: the flow has no task save_result, so nothing wrote the row"""

import sys

import pieces
from prefect import Flow

from slideqc import flags


def define_flow():
    with Flow("Check one slide") as flow:
        p = pieces.parameters()
        image, _, percent_blurry = pieces.measure(p)
        pieces.rescan(image, percent_blurry, p.blur_max)
    return flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, output=str(options.output), **flags.parameters(options))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
