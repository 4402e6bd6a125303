"""The parts of check.py: is this machine ready, and is this flow right?"""
