"""The model card: what a model was trained on, under which licences, how far it got, and what it is not for."""

from __future__ import annotations

from typing import Any


def model_card(name: str, description: dict[str, Any], training: dict[str, Any], sources: list[dict[str, Any]]) -> str:
    """Return the model's `README.md`.

    Args:
        name: Id of the model.
        description: `LanguageModel.describe()`.
        training: What `training.json` holds.
        sources: What `TrainingData.sources` returns.
    """
    started = f"the weights of `{training['started_from']}`" if training["started_from"] else "random weights"
    return "\n".join(
        [
            f"# {name}",
            "",
            "A small language model of Chinese and English text, made by slimpajama.",
            "",
            "## Model",
            "",
            _table(["", ""], [[key, _text(value)] for key, value in description.items()]),
            "",
            "## Data",
            "",
            _data(sources),
            "",
            "## Training",
            "",
            f"{training['steps']:,} steps, {training['tokens']:,} tokens, from {started}; settings and the versions of "
            "every library that counts are in `manifest.json`, the loss curve in `training.json`.",
            "",
            _table(["loss", "nats a token"], _figures(training["curve"][-1])),
            "",
            _table(["validation", "bits per byte"], _figures(training["validation"][-1])),
            "",
            "## Limits",
            "",
            "It repeats what its sources say, errors and prejudices included, and invents the rest. It has not been "
            "aligned or filtered for harmful content. Text like its training data may come out word for word. It is "
            "made for studying language models and for applications that check its output.",
            "",
        ]
    )


def _data(sources: list[dict[str, Any]]) -> str:
    rows = [
        [
            row["night"],
            row["source"],
            row["licence"] or "not stated",
            row["lang"],
            f"{row['documents']:,}",
            f"{row['n_bytes'] / 1e6:.2f}",
        ]
        for row in sources
    ]
    return _table(["night", "source", "licence", "language", "documents", "MB"], rows)


def _figures(point: dict[str, float]) -> list[list[str]]:
    return [[name, f"{value:.4f}"] for name, value in sorted(point.items()) if name not in ("step", "tokens")]


def _text(value: Any) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
