"""2: registered the flow, and ran it itself, with flow.run()"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def ask(flow, slides, options):
    flow.register(project_name="Image QC")
    for file_name in slides:
        flow.run(file_name=file_name, **pieces.given(options))


if __name__ == "__main__":
    sys.exit(pieces.send(define_flow(), ask))
