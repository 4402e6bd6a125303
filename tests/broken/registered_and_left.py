"""2: registered the flow, and asked for no run of it"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow.register(project_name="Image QC")


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
