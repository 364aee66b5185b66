from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from slimpajama.core.config import EvaluateConfig
from slimpajama.model.evaluate.gate import (
    Paired,
    decide,
    decide_first,
    group_languages,
    mean_over_languages,
    resample_differences,
)

CFG = EvaluateConfig()
LN2 = math.log(2)


def paired(differences: dict[str, tuple[int, float, float]], seed: int = 0) -> Paired:
    """Make documents of `lang -> (documents, mean difference, its deviation)` in bits per byte; the champion has 2."""
    rng = np.random.default_rng(seed)
    lang = [name for name, (n, _, _) in differences.items() for _ in range(n)]
    n_bytes = rng.integers(300, 3000, len(lang))
    shift = np.concatenate([rng.normal(mean, deviation, n) for n, mean, deviation in differences.values()])
    champion = 2.0 * LN2 * n_bytes
    return Paired(lang, n_bytes, champion, champion + shift * LN2 * n_bytes)


def test_the_first_model_becomes_champion_if_it_beats_the_counts_of_single_bytes():
    assert decide_first(paired({"en": (200, -0.1, 0.05), "zh": (20, -0.2, 0.05)})).promote
    for worse in ({"en": (200, 0.1, 0.05), "zh": (20, 0.1, 0.05)}, {"en": (200, 0.0, 0.0)}, {"zh": (5, 1e6, 0.0)}):
        decision = decide_first(paired(worse))
        assert not decision.promote
        assert "how often each byte is in the training text" in decision.reason


def test_a_first_model_that_no_text_judged_says_so():
    decision = decide_first(Paired([], np.empty(0, np.int64), np.empty(0), np.empty(0)))
    assert decision.promote
    assert "no held-out text to judge it by (shards.test_share)" in decision.reason


def test_a_clearly_better_model_is_promoted_with_its_figures():
    decision = decide(paired({"en": (200, -0.1, 0.05), "zh": (200, -0.2, 0.05)}), CFG)
    assert decision.promote
    assert decision.overall is not None
    assert decision.overall.champion == pytest.approx(2.0)
    assert decision.overall.difference == pytest.approx(-0.15, abs=4 * 0.05 / math.sqrt(200))
    assert decision.overall.low < decision.overall.difference < decision.overall.high < 0
    assert "1.85" in decision.reason


def test_the_same_scores_are_not_better():
    same = paired({"en": (50, 0.0, 0.0), "zh": (50, 0.0, 0.0)})
    assert not decide(same, CFG).promote


def test_a_worse_model_is_kept_back():
    assert not decide(paired({"en": (100, 0.1, 0.05)}), CFG).promote


def test_a_gain_within_the_noise_is_kept_back():
    decision = decide(paired({"en": (30, -0.01, 0.5), "zh": (30, -0.01, 0.5)}), CFG)
    assert not decision.promote
    assert "Not clearly better" in decision.reason


def test_a_large_gain_in_one_language_does_not_buy_a_loss_in_the_other():
    decision = decide(paired({"en": (200, -0.5, 0.05), "zh": (200, 0.05, 0.05)}), CFG)
    assert decision.overall is not None
    assert decision.overall.high < 0
    assert not decision.promote
    assert "worse in zh" in decision.reason


@pytest.mark.parametrize("worse", ["zh", "en"])
def test_a_rejection_names_the_language_that_is_clearly_worse(worse: str):
    better = {"zh": "en", "en": "zh"}[worse]
    reason = decide(paired({better: (200, 0.0, 0.05), worse: (200, 0.3, 0.05)}), CFG).reason
    assert "Not clearly better" in reason
    assert f"clearly worse in {worse} " in reason
    assert f"{better} " not in reason
    assert "clearly worse" not in decide(paired({"en": (30, -0.01, 0.5)}), CFG).reason


def test_the_mean_over_languages_is_the_gates():
    scores = paired({"en": (40, 0.0, 0.01), "zh": (30, 0.4, 0.01), "fr": (6, 3.0, 0.0), "de": (6, 2.0, 0.0)})
    figures = {}
    for lang in ("en", "zh", "fr", "de"):
        chosen = np.array(scores.lang) == lang
        n_bytes = int(scores.n_bytes[chosen].sum())
        bits = float(scores.challenger[chosen].sum()) / math.log(2) / n_bytes
        figures[lang] = {"documents": int(chosen.sum()), "bytes": n_bytes, "bits_per_byte": bits}
    overall = decide(scores, CFG).overall
    assert overall is not None
    assert mean_over_languages(figures, "bits_per_byte") == pytest.approx(overall.challenger)
    del figures["de"]
    both = (figures["en"]["bits_per_byte"] + figures["zh"]["bits_per_byte"]) / 2
    assert mean_over_languages(figures, "bits_per_byte") == pytest.approx(both)
    assert mean_over_languages({"fr": figures["fr"]}, "bits_per_byte") == figures["fr"]["bits_per_byte"]


def test_a_loss_within_the_noise_of_one_language_does_not_block():
    decision = decide(paired({"en": (200, -0.5, 0.05), "zh": (20, 0.01, 0.5)}), CFG)
    assert decision.promote


def test_languages_weigh_the_same_whatever_their_size():
    decision = decide(paired({"en": (1000, -0.2, 0.01), "zh": (20, -0.4, 0.01)}), CFG)
    assert decision.overall is not None
    assert decision.overall.difference == pytest.approx(-0.3, abs=0.01)


def test_one_document_of_a_rare_language_decides_nothing():
    decision = decide(paired({"en": (100, -0.1, 0.02), "fr": (1, 3.0, 0.0)}), CFG)
    assert decision.promote
    assert decision.languages is not None
    assert list(decision.languages) == ["en"]


def test_rare_languages_count_together_once_they_are_enough():
    lang = ["en"] * 12 + ["fr"] * 6 + ["de"] * 6
    groups = group_languages(lang, np.ones(24, np.int64))
    assert [(name, len(rows)) for name, rows in groups] == [("en", 12), ("other", 12)]
    only_few = group_languages(["en", "zh"], np.ones(2, np.int64))
    assert [(name, len(rows)) for name, rows in only_few] == [("other", 2)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_model_without_a_finite_likelihood_is_never_promoted(bad: float):
    scores = paired({"en": (50, -0.5, 0.01)})
    scores.challenger[7] = bad
    assert not decide(scores, CFG).promote
    assert not decide_first(scores).promote


def test_without_held_out_text_nothing_is_promoted():
    empty = Paired([], np.empty(0, np.int64), np.empty(0), np.empty(0))
    assert not decide(empty, CFG).promote


def test_the_interval_has_the_width_that_theory_gives():
    """For documents of equal size the bootstrap's standard deviation is that of the mean."""
    rng = np.random.default_rng(0)
    n, resamples, size = 400, 4000, 1000
    shift = rng.normal(0.0, 0.2, n)
    found = resample_differences(shift * LN2 * size, np.full(n, size), resamples, rng).std()
    expected = shift.std() / math.sqrt(n)
    # Four standard errors of a deviation.
    assert found == pytest.approx(expected, rel=4 / math.sqrt(2 * resamples))


def test_the_same_scores_give_the_same_decision_as_plain_json():
    scores = paired({"en": (30, -0.1, 0.2), "zh": (30, -0.1, 0.2)})
    one, two = (json.dumps(asdict(decide(scores, CFG)), allow_nan=False) for _ in range(2))
    assert one == two
