"""1: no end after 8 s, while calling define_flow()"""

def define_flow():
    while True:
        pass
