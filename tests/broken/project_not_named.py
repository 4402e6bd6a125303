"""2: flow.register() was not told which project the flow belongs to"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow.register()


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
