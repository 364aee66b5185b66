"""`slimpajama`, and `python -m slimpajama`: the command line, which Ctrl-C ends from its first import on."""

from slimpajama.core.machine import steady_streams, use_utf8
from slimpajama.core.stopping import ends_on_ctrl_c


def main() -> None:
    """Run the command that the program's arguments name, and end the process with its exit code."""
    use_utf8()
    # Before anything else takes the number of a stream that is closed.
    steady_streams()
    with ends_on_ctrl_c():
        from slimpajama.cli import main as command_line

        command_line()


if __name__ == "__main__":
    main()
