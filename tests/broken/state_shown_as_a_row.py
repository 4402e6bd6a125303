"""1: show() was given what flow.run() returns, which is a State and no row"""

import sys

from slideqc.console import show

import pieces

from slideqc import flags
from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    show(flow.run(file_name=file_name, output=str(options.output), **flags.parameters(options)))


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
