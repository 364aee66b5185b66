"""Run the command line in a process that kills itself with SIGKILL around one of its writes or removals.

    python dying.py before:12 run --config x.toml

`before:N` dies when the Nth file is about to be written or removed, `after:N` right after, and `torn:N` after its
temporary file is there but not yet renamed. This hook lives here: nothing in the product can be told to die.
"""

import errno
import itertools
import os
import signal
import sys
import threading

from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.s3 import S3Store

CHANGES = {LocalStore: ("_publish", "delete", "delete_tree"), S3Store: ("write", "_put", "delete", "delete_tree")}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment, number, only="", die=die):
    """Make this process die, or do something else, at its Nth change of a file whose path has `only` in it."""
    # Files are written by several threads at once.
    numbers, mine = itertools.count(1), threading.local()

    def dying(change):
        def changed(self, path, *args, **options):
            mine.number = next(numbers) if only in path else 0
            if moment == "before" and mine.number == number:
                die()
            result = change(self, path, *args, **options)
            if moment == "after" and mine.number == number:
                die()
            return result

        return changed

    def dying_temporary(self, folder, data, temporary=LocalStore._temporary):
        made = temporary(self, folder, data)
        # The Nth change may be a removal, which has no temporary file.
        if moment == "torn" and mine.number >= number:
            die()
        return made

    LocalStore._temporary = dying_temporary
    for store, names in CHANGES.items():
        for name in names:
            setattr(store, name, dying(getattr(store, name)))


def failing_sync(number, code=errno.EIO, sync=os.fsync):
    """Return an `os.fsync` that works so many times and then fails for good, as a broken or full disk does."""
    left = iter(range(number))

    def failing(descriptor):
        if next(left, None) is None:
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    return failing


if __name__ == "__main__":
    moment, _, number = sys.argv[1].partition(":")
    arm(moment, int(number))
    from slimpajama.cli import run

    sys.exit(run(sys.argv[2:]))
