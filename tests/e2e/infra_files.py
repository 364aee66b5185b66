"""The compose files as an engine would see them."""

import re

import yaml
from servers import ROOT

FOLDER = ROOT / "infra" / "compose"
# ${NAME}, ${NAME:-default}, ${NAME:?message}.
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")


def compose(name="compose.yaml", **values):
    """Return a compose file with its variables filled in and its anchors merged."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return yaml.safe_load(VARIABLE.sub(lambda found: values.get(found[1], found[2] or "1"), text))
