"""Run the command line as version 0.1.0: the version stands in manifests, and so in a model's name.

python pinned.py run --config x.toml
"""

import sys

import slimpajama

slimpajama.__version__ = "0.1.0"

if __name__ == "__main__":
    import in_order

    from slimpajama.cli import main
    from slimpajama.corpus import ingest

    # After an upgrade a night also reads what earlier versions refused: no part of what is compared.
    ingest.to_try_again = lambda *_: {}
    # Nor is the order in which training and tuning read.
    in_order.use()
    main(sys.argv[1:])
