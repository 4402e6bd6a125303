"""The parts of compare.py: what is run, how it is measured, what the figures say, and how they are shown."""
