"""3: stopped in line 12: flow.run() was not given file_names"""

import sys

import pieces

from slideqc import flags
from solutions.pipeline_prefect_parallel import define_flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, output=str(options.output), **flags.parameters(options))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
