"""What only check.py uses: is this machine ready, and is this flow right?"""
