"""1: run as a script, hangs_as_a_script.py came to no end within 8 s"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    while True:
        pass


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
