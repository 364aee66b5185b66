"""`slimpajama`, and `python -m slimpajama`: the command line, which Ctrl-C ends from its first import on."""

import sys

from slimpajama.core.machine import steady_streams, use_utf8
from slimpajama.core.stopping import ends_on_ctrl_c

# Commands that compute.
SLOW = {
    *("answer", "clean-up", "compress", "decompress", "dedup", "demo-corpus", "evaluate", "export", "forget"),
    *("generate", "lm-eval", "pairs", "prepare", "reconstruct", "run", "score", "serve", "summarize", "trace", "train"),
    *("translate", "tune", "verify"),
}
HELP = {"-h", "--help"}


def main() -> None:
    """Run the command that the program's arguments name, and end the process with its exit code."""
    use_utf8()
    # Before anything else takes the number of a stream that is closed.
    steady_streams()
    with ends_on_ctrl_c():
        # The libraries take seconds on a busy machine.
        if sys.stderr.isatty() and SLOW.intersection(sys.argv[1:2]) and HELP.isdisjoint(sys.argv):
            print(f"slimpajama {sys.argv[1]}: loading the libraries", file=sys.stderr, flush=True)
        from slimpajama.cli import main as command_line

        command_line()


if __name__ == "__main__":
    main()
