"""How Ctrl-C ends a command: within seconds, with one line, whatever the command is at."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

# What a shell shows for a program that Ctrl-C ended.
INTERRUPTED = 130
STOPPED = "stopped"
# How long a command may take to give back what it holds.
GRACE_S = 4.0
# How often a process looks whether the one that started it is still there.
LOOKS_EVERY_S = 0.2

_stopped = threading.Event()
AGAIN = "; run again to go on"
_at = AGAIN


def stopped() -> str:
    """Return what to tell a person who pressed Ctrl-C: where that was, what is kept, how to go on."""
    return f"{STOPPED}{_at}"


@contextlib.contextmanager
def stops(at: str) -> Iterator[None]:
    """Let `stopped` say `at` while the block runs, and after it where Ctrl-C ends it."""
    global _at
    before, _at = _at, at
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        # A library may have made an error of its own of it.
        _at = at if _stopped.is_set() else before
        raise
    _at = before


class Pool(ThreadPoolExecutor):
    """Threads that end with their block; an error gives up what has not begun, Ctrl-C what has, too.

    What a thread is at when the process ends is as good as killed, and that costs no more than its own work.
    """

    def __init__(self, threads: int, name: str = "") -> None:
        super().__init__(max(1, threads), thread_name_prefix=name)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=kind is not None)


@contextlib.contextmanager
def ends_on_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread, once; end the process where that has not ended it after `GRACE_S`.

    Code outside of Python runs no handler for as long as it computes. So a thread hears of the signal, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts a command in the background.
        yield
        return
    heard, told = os.pipe()
    main = threading.get_ident()
    os.set_blocking(told, False)

    def interrupt(*_: Any) -> NoReturn:
        # A second one must not disturb what the first one ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _stopped.set()
        raise KeyboardInterrupt

    def watch() -> None:
        # Where another handler stands, as a server's, the signal is none of ours.
        while number := os.read(heard, 1):
            if number[0] == signal.SIGINT and signal.getsignal(signal.SIGINT) in (interrupt, signal.SIG_IGN):
                end = time.monotonic() + GRACE_S
                while time.monotonic() < end:
                    # polars lets system calls begin again after Ctrl-C. Of another signal, they end, and the handler
                    # runs.
                    if not _stopped.is_set():
                        signal.pthread_kill(main, signal.SIGURG)
                    time.sleep(0.1)
                end_now(f"\rslimpajama: {stopped()}\n")

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGURG, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True, name="ctrl-c").start()
    try:
        with still_ctrl_c():
            yield
    except KeyboardInterrupt:
        end_now(f"slimpajama: {stopped()}\n")


@contextlib.contextmanager
def still_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt again where a library took it and raised an error of its own."""
    try:
        yield
    except Exception as error:
        if _stopped.is_set():
            raise KeyboardInterrupt from error
        raise


def kill(*processes: int) -> None:
    """Kill processes, by pid, and what they have started, in whatever session, and wait until they are gone.

    All are stopped before one is killed: one that sees another one go may say so at length.
    """
    # Few commands need it, and it costs their start.
    import psutil

    found: list[psutil.Process] = []
    for pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
            # It starts none between the count and its end.
            found[-1].suspend()
            found += found[-1].children(recursive=True)
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                act(process)
    psutil.wait_procs(found, timeout=GRACE_S / 2)


def end_now(text: str = "") -> NoReturn:
    """End the process as Ctrl-C does, with all that it has started, without waiting for threads.

    Args:
        text: Is written to stderr before.
    """
    with contextlib.suppress(Exception):
        import psutil

        kill(*(child.pid for child in psutil.Process().children()))
    with contextlib.suppress(OSError, ValueError):
        # A progress bar hides the cursor.
        os.write(2, (("\x1b[?25h" if sys.stderr.isatty() else "") + text).encode())
    os._exit(INTERRUPTED)
