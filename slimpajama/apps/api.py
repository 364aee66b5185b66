"""The house's face for Python: what `import slimpajama` gives.

A champion is loaded once and asked again and again. What a model or a corpus says is plain text: whoever shows it
escapes it. Errors are subclasses of `slimpajama.core.errors.SlimpajamaError`, whose text says what is wrong, where, and
what to do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimpajama.core.config import validate
from slimpajama.workspace.open import Workspace, open_workspace

__all__ = ["dedup", "generate", "load_champion", "open_workspace", "score", "trace"]

if TYPE_CHECKING:
    from slimpajama.corpus.dedup.files import FilesReport
    from slimpajama.corpus.trace import Trace
    from slimpajama.model.loading import Loaded


def load_champion(workspace: Workspace | str, *, memory: bool = True) -> "Loaded":
    """Return the workspace's champion: its `id`, `model`, `tokenizer` and `config`.

    Args:
        workspace: What `open_workspace` returned, or its folder or `s3://bucket/prefix`.
        memory: Whether it looks the corpus up; False for the network alone.

    Raises:
        ModelError: There is none yet.
        StorageError: A file is missing or damaged.
    """
    from slimpajama.model.loading import load_model

    return load_model(_opened(workspace), memory=memory)


def score(champion: "Loaded", text: str) -> dict[str, float]:
    """Return `bytes`, `tokens`, `nll_nats` and `bits_per_byte` of a text, taken as one document.

    With a memory also `network_bits_per_byte`, what the network takes alone. Every byte of the text counts.

    Example:
        >>> champion = slimpajama.load_champion("demo/workspace")  # doctest: +SKIP
        >>> slimpajama.score(champion, "今天天气很好。")["bits_per_byte"]  # doctest: +SKIP
    """
    from slimpajama.model.evaluate.score import score_text

    return score_text(champion.model, champion.tokenizer, text)


def generate(champion: "Loaded", prompt: str = "", **settings: Any) -> str:
    """Return a continuation of a prompt, without the prompt; the same seed gives the same text.

    Args:
        settings: Fields of `GenerateConfig`: `max_tokens`, `temperature`, `top_p`, `seed`, `stop` and so on.

    Raises:
        ConfigError: A setting is unknown, or its value is not allowed.

    Example:
        >>> slimpajama.generate(champion, "今天", max_tokens=60, seed=1)  # doctest: +SKIP
    """
    from slimpajama.model.device import one_thread
    from slimpajama.model.generate.text import generate_texts

    cfg = validate({"generate": settings}).generate
    with one_thread():
        return generate_texts(champion.model, champion.tokenizer, prompt, cfg)[0]


def trace(workspace: Workspace | str, text: str, *, min_tokens: int = 5, max_documents: int = 3) -> "Trace":
    """Return the spans of a text that stand in the corpus, the longest first, with their documents and licences.

    Args:
        min_tokens: Tokens of the shortest span that is told: about eight ideographs, or four words.
        max_documents: Most documents of each span.

    Raises:
        InputError: No night is published, or one has no index yet.
        StorageError: The index or a night is damaged.
    """
    from slimpajama.corpus.trace import trace as trace_text

    return trace_text(_opened(workspace), text, min_tokens, max_documents)


def dedup(
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    against: str = "",
    text_fields: Sequence[str] = ("text",),
    id_field: str = "",
    workers: int = 0,
    **settings: Any,
) -> "FilesReport":
    """Remove exact and near-duplicates from files of records; `slimpajama.corpus.dedup.files` says more.

    Args:
        inputs: JSON lines or arrays, CSV, Parquet or Arrow files, plain or packed.
        out: Folder for `kept/`, `removed/` and `refused/`.
        against: A workspace, or the `out` of an earlier call, to compare with, too.
        text_fields: Fields that hold the text; several are joined.
        id_field: Field that holds the id; by default `id`, which may be missing.
        workers: Threads; 0 takes every core. The output does not depend on it.
        settings: Fields of `DedupConfig`: `threshold`, `preset` and so on.

    Raises:
        ConfigError: A file is missing or of no known kind, a setting is wrong, or `out` holds something else.
        InputError: No record has a text, or a file cannot be read. `out` is as it was.
    """
    from slimpajama.corpus.dedup.files import dedup_files

    files, cfg = [*map(Path, inputs)], validate({"dedup": settings}).dedup
    return dedup_files(files, Path(out), cfg, workers, against, text_fields=text_fields, id_field=id_field)


def _opened(workspace: Workspace | str) -> Workspace:
    return workspace if isinstance(workspace, Workspace) else open_workspace(workspace)
