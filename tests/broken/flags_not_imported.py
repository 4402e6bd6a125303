"""1: stopped in line 11: NameError: name 'flags' is not defined"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    flow.run(file_name=file_name, output=str(options.output), **flags.parameters(options))  # noqa: F821


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
