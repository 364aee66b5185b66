"""What `import slimpajama` gives: the same answers as the commands."""

import json
import subprocess
import sys

import pytest

import slimpajama
from slimpajama.cli import run
from slimpajama.core.errors import ConfigError, ModelError
from slimpajama.corpus.index import index_nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table

TEXT = "今天天气很好。 The weather is fine."


@pytest.fixture
def asked(trained, capsys):
    """A workspace with a champion and an index, and a command's last line as JSON."""
    space, model = trained
    workspace = Workspace(space.store)
    index_nights(workspace, space.cfg)
    workspace.models.promote(model, "first")

    def command(*arguments):
        assert run([*map(str, arguments), "--json", "--workspace", workspace.uri]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return workspace, command


def test_it_is_there_by_name_and_costs_nothing_before_it_is_used():
    said = "import sys, slimpajama; print(dir(slimpajama), 'torch' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False False\n")
    assert all(repr(name) in done.stdout for name in slimpajama.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slimpajama.nothing  # noqa: B018


def test_a_champion_answers_as_the_commands_do(asked, tmp_path):
    workspace, command = asked
    champion = slimpajama.load_champion(workspace.uri)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert slimpajama.score(champion, TEXT) == pytest.approx(command("score", "--text", tmp_path / "text.txt"))
    for prompt in ("今天", "The"):
        said = command("generate", "--prompt", prompt, "--max-tokens", 8, "--seed", 3)["text"]
        assert slimpajama.generate(champion, prompt, max_tokens=8, seed=3) == said
    assert slimpajama.load_champion(slimpajama.open_workspace(workspace.uri), memory=False).memory == ""
    with pytest.raises(ConfigError, match="max_token: unknown setting, did you mean max_tokens"):
        slimpajama.generate(champion, "今天", max_token=8)


def test_a_text_is_traced_as_the_command_does(asked, tmp_path):
    workspace, command = asked
    first = workspace.nights.published()[0]
    entry = workspace.nights.load(first).entries(f"nights/{first}/shards/train/")[0]
    text = "".join(read_table(workspace.store, entry, ["words"])["words"][0].as_py())
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    # These nights have shards, but no documents to tell of.
    found = slimpajama.trace(workspace.uri, text, max_documents=0)
    assert found.spans[0].tokens > 20
    assert found.as_dict() == command("trace", "--text", tmp_path / "text.txt", "--documents", 0)


def test_files_are_deduplicated(tmp_path):
    texts = ["今天我们讨论新的语言模型和天气数据。" * 8, "The library published a new report on maps." * 8]
    lines = [json.dumps({"text": text}) for text in (*texts, texts[0])]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = slimpajama.dedup([tmp_path / "in.jsonl"], tmp_path / "out", threshold=0.7)
    assert (report.documents, report.kept, report.exact_duplicates) == (3, 2, 1)


def test_a_workspace_without_a_champion_says_so(tmp_path):
    with pytest.raises(ModelError):
        slimpajama.load_champion(str(tmp_path))
