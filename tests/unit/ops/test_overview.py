"""Tables of what a workspace holds."""

from slimpajama.core.config import load_config
from slimpajama.ops.overview import list_models_with_scores, list_nights
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store


def test_nights_are_listed_with_what_came_of_them(tmp_path):
    store = open_store(str(tmp_path))
    stages = [
        Manifest("ingest", "1", (), {"documents": {"a": 3, "b": 1}, "removed": {"b": {"no-text": 2}}}, {}),
        Manifest("dedup", "2", (), {"kept": {"a": 2}}, {}),
        Manifest("shards", "3", (), {"tokens": {"train": {"zh": 5}, "test": {"en": 4}}}, {}),
    ]
    Nights(store).publish("n1", stages, load_config(None))
    (row,) = list_nights(Workspace(store))
    assert row["problems"] == "b: 2 by no-text"
    assert (row["night"], row["read"], row["kept"], row["tokens"], row["promoted"]) == ("n1", 4, 2, 9, "")


def test_models_are_listed_with_their_night(trained):
    workspace, model = trained
    (row,) = list_models_with_scores(Workspace(workspace.store))
    assert (row["model"], row["night"], row["champion"]) == (model, workspace.nights[0], "")
