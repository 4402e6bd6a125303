"""1: run as a script, hangs_as_a_script.py came to no end within 100 s"""

import sys

import pieces

from solutions.pipeline_prefect import define_flow


def in_the_loop(flow, file_name, options):
    print("hangs from here on", flush=True)
    while True:
        pass


if __name__ == "__main__":
    sys.exit(pieces.main(define_flow(), in_the_loop))
