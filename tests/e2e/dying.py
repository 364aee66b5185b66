"""Run the command line in a process that kills itself with SIGKILL around one of its writes.

    python dying.py before:12 run --config x.toml

`before:N` dies when the Nth file is about to be written, `after:N` right after it has been, and `torn:N` after its
temporary file is there but not yet renamed. This hook lives here: nothing in the product can be told to die.
"""

import itertools
import os
import signal
import sys
import threading

from slimpajama import storage
from slimpajama.cli import run


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment, number):
    publish, temporary = storage.LocalStore._publish, storage.LocalStore._temporary
    numbers, mine = itertools.count(1), threading.local()  # files are written by several threads at once

    def dying_publish(self, path, data, *, only_first):
        mine.number = next(numbers)
        if moment == "before" and mine.number == number:
            die()
        result = publish(self, path, data, only_first=only_first)
        if moment == "after" and mine.number == number:
            die()
        return result

    def dying_temporary(self, data):
        made = temporary(self, data)
        if moment == "torn" and mine.number == number:
            die()
        return made

    storage.LocalStore._publish = dying_publish
    storage.LocalStore._temporary = dying_temporary


if __name__ == "__main__":
    moment, _, number = sys.argv[1].partition(":")
    arm(moment, int(number))
    sys.exit(run(sys.argv[2:]))
