"""The parts of compare.py: run the scripts, measure them, evaluate the measurements, and write the results."""
