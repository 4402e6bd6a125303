"""1: no end after 100 s, while calling define_flow()"""

def define_flow():
    print("hangs from here on", flush=True)
    while True:
        pass
