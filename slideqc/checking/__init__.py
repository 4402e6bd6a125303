"""What check.py needs and nothing else does: is this machine ready, and is this flow right?"""
