"""1: stopped in line 11: flow.run() was given work_size, which is no Parameter of the flow"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, output=str(options.output), work_size=options.image_work_size)


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
