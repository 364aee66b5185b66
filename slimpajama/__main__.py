"""`python -m slimpajama` is the command line."""

from slimpajama.cli import main

if __name__ == "__main__":
    main()
