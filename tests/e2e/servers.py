"""Starting and stopping what the end-to-end tests need."""

import contextlib
import os
import signal
import socket
import subprocess
import time


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def stop(process):
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def until(probe, seconds, what):
    end = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except Exception as error:
            if time.monotonic() > end:
                raise TimeoutError(f"{what} was not there after {seconds} s: {error}") from error
            time.sleep(0.5)
