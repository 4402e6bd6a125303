"""1: --blur-threshold 0.06 --blur-max 0.2; partly-blurry.svs_tissue_seg.png is another picture"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, output=str(options.output))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
