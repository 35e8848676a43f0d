"""Times a benchmark inside the Python that runs it, and prints what the host compares.

Used as: python measure.py NAME ROUNDS. NAME is a module beside this file with a function `run()` that
returns a text, the same in every Python. Prints the milliseconds of processor time of each round, then that text.
"""
import sys
import time

# The folder of this file, which a guest may see under another path than the host.
sys.path.insert(0, __file__.rpartition("/")[0] or ".")


def main(name, rounds):
    run = __import__(name).run
    result = run()
    for _ in range(rounds):
        start = time.process_time()
        again = run()
        print("ms", (time.process_time() - start) * 1000)
        assert again == result, (again, result)
    print("result", result)


main(sys.argv[1], int(sys.argv[2]))
