"""The model card: what a model was trained on, under which licences, how far it got, and what it is not for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimpajama.core.page import render


def model_card(name: str, description: dict[str, Any], training: dict[str, Any], sources: list[dict[str, Any]]) -> str:
    """Return the model's `README.md`.

    Args:
        name: Id of the model.
        description: `LanguageModel.describe()`.
        training: What `training.json` holds.
        sources: What `TrainingData.sources` returns.
    """
    template = Path(__file__).with_name("card.md")
    return render(template, name=name, description=description, training=training, sources=sources)
