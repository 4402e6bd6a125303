"""1: run as a script, output_not_handed_on.py wrote to the default output folder"""

import sys

import pieces

from slideqc import flags
from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, **flags.parameters(options))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
