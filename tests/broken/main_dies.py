"""1: stopped in line 12: AttributeError: 'Flow' object has no attribute 'start'"""

import sys

import pieces

from slideqc import flags
from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    flow.start(file_name=file_name, output=str(options.output), **flags.parameters(options))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
