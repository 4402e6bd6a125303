"""The parts of compare.py: what is run, how it is measured, the statistics, and how they are shown."""
