"""2: stopped in line 11: the server has no project 'Slides'"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow.register(project_name="Slides")


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
