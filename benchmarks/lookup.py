"""Measure what it brings to look the corpus up: bits per byte, time, compression, copies and words that nobody wrote.

    python -m benchmarks.lookup [--cache FOLDER] [--only NAME...]

Each part trains one network in a process of its own, on one thread, for 10 minutes of processor time or on so many
tokens; it learns the memory's weights on the validation split and is asked about the test split, alone and with the
memory. Parts that the cache holds for this commit are not run again. Writes docs/benchmarks/lookup.md.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.machine import DOCS, conditions, table
from benchmarks.model import (
    LANGUAGES,
    Part,
    demo_workspace,
    parser_of,
    run_anew,
    train_anew,
    training_data,
    workspace_of,
)
from slimpajama.core.config import Config, GenerateConfig, ModelConfig

MINUTES = 10.0
PARTS = {
    "docs-small": Part({"preset": "small"}),
    "docs-gpt": Part({"preset": "gpt"}),
    **{f"demo-{tokens:,}": Part({"preset": "small"}, tokens=tokens, corpus="demo") for tokens in (709_000, 1_655_000)},
}
TURNS, SCORED, COMPRESSED = 3, 100_000, 60_000
"""Turns of what is timed; bytes of held-out text a language that are scored, and compressed, in each."""
SAMPLES, PROMPT_TOKENS, NEW_TOKENS = 100, 12, 60
"""Texts a language, tokens of a held-out document that each begins with, and tokens that are written."""
NOTE = f"""\
`network` is the network alone, with rows from all over the text; `both` is the network with the memory of the training
split. Bits per byte of the whole test split. Marks: `both` 10 % below the network in both languages; the memory at most
5 % of the night's time with training (here: index and weights against training, without the rest of the night); scoring
at most 1.5 times as long; generation at least 0.8 times as fast; files at least 12 % smaller; words that stand in no
training document at most 2 points more often than in held-out text; no copy of more than 12 words, or 24 ideographs.

- scoring: the first {SCORED:,} bytes of each language, {TURNS} turns that alternate; compression: the first
  {COMPRESSED:,}, without the models
- samples: {SAMPLES} a language, {NEW_TOKENS} tokens after the first {PROMPT_TOKENS} of a held-out document, at the
  default settings; a sample's last word, which may not be whole, counts nowhere
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A held-out document."""

    lang: str
    ids: Any
    bytes: int
    words: list[str]


def read(workspace: str, split: str) -> pa.Table:
    """Return the documents of a split of the newest night."""
    from slimpajama.core.schema import SHARDS
    from slimpajama.workspace import layout
    from slimpajama.workspace.open import open_workspace
    from slimpajama.workspace.parquet import read_columns

    space = open_workspace(workspace)
    night = space.nights.published()[-1]
    entries = space.nights.load(night).entries(layout.night(night).split(split))
    return read_columns(space.store, entries, SHARDS, ["lang", "input_ids", "n_bytes", "words"])


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def run_part(workspace: str, part: Part) -> dict[str, Any]:
    """Train and measure one model in this process."""
    from slimpajama.model.memory.contexts import Corpus
    from slimpajama.model.memory.model import Memory, RememberingModel
    from slimpajama.model.memory.stage import gather_evidence
    from slimpajama.model.memory.weights import learn
    from slimpajama.text.suffixes import suffixes_of

    data, tokenizer, endless = training_data(workspace)
    budget = {"tokens": part.tokens} if part.tokens else {"max_seconds": 60 * MINUTES}
    cfg = replace(endless, seed=part.seed, precision="fp32" if part.tokens else endless.precision, **budget)
    network, rows, history = train_anew(data, tokenizer, cfg, ModelConfig(**part.model))
    network.eval()
    train = read(workspace, "train")
    document = np.array([tokenizer.document_id], np.int64)
    stream = [one for ids in train["input_ids"].to_numpy() for one in (document, ids)]
    begun = time.process_time()
    suffixes = suffixes_of(np.concatenate([*stream, document]), tokenizer.vocab_size, tokenizer.document_id)
    index_s, begun = time.process_time() - begun, time.process_time()
    corpus = Corpus([suffixes], Config().memory.max_context)
    evidence = gather_evidence(corpus, network, data.held_out(), tokenizer.document_id, Config(train=cfg))
    both = RememberingModel(network, Memory(corpus, learn(*evidence, tokenizer.vocab_size))).eval()
    weights_s = time.process_time() - begun
    test = read(workspace, "test")
    columns = (test[name].to_pylist() for name in ("lang", "n_bytes", "words"))
    held = [
        Held(lang, ids, size, words)
        for ids, lang, size, words in zip(test["input_ids"].to_numpy(), *columns, strict=True)
        if lang in LANGUAGES
    ]
    return {
        "tokens": history.step * rows.batch_rows * rows.row_tokens,
        "precision": cfg.precision,
        "corpus": len(suffixes.ids),
        "share": (index_s + weights_s) / (history.seconds + index_s + weights_s),
        "index_s": index_s,
        "weights_s": weights_s,
        "bits": bits(both, tokenizer, held),
        "score": turns(lambda model: score(model, tokenizer, first(held, SCORED)), network, both),
        "compressed": {
            lang: [packed(model, tokenizer, [one for one in held if one.lang == lang]) for model in (network, both)]
            for lang in LANGUAGES
        },
        **samples((network, both), tokenizer, held, train),
    }


def first(held: Iterable[Held], size: int) -> list[Held]:
    """Return the first documents of each language, about `size` bytes of it."""
    chosen, sizes = [], dict.fromkeys(LANGUAGES, 0)
    for one in held:
        if sizes[one.lang] < size:
            chosen.append(one)
            sizes[one.lang] += one.bytes
    return chosen


def score(model: Any, tokenizer: Any, held: Sequence[Held]) -> Any:
    """Return negative log-likelihoods of documents, (parts, D)."""
    from slimpajama.model.evaluate.score import score_parts

    return score_parts(model, [one.ids for one in held], tokenizer.document_id)


def bits(both: Any, tokenizer: Any, held: Sequence[Held]) -> dict[str, list[float]]:
    """Return bits per byte by language, of the network and of both."""
    nll = score(both, tokenizer, held)
    found = {}
    for lang in LANGUAGES:
        own = np.array([one.lang == lang for one in held])
        size = sum(one.bytes for one in held if one.lang == lang) * math.log(2)
        found[lang] = [float(nll[part][own].sum() / size) for part in (1, 0)]
    return found


def turns(run: Callable[[Any], object], network: Any, both: Any) -> list[float]:
    """Return the median processor seconds of a call with the network, and with both; turns alternate."""
    run(network), run(both)
    pairs = [[seconds(lambda model=model: run(model)) for model in (network, both)] for _ in range(TURNS)]
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def packed(model: Any, tokenizer: Any, held: Sequence[Held]) -> int:
    """Return the compressed bytes of the first documents."""
    from slimpajama.apps.compress.streams import encode

    text = "\n\n".join("".join(one.words) for one in held).encode()[:COMPRESSED]
    return len(encode(model, tokenizer, np.array(tokenizer.encode_bytes(text), np.int64)))


def samples(models: Sequence[Any], tokenizer: Any, held: Sequence[Held], train: pa.Table) -> dict[str, Any]:
    """Return tokens a processor second, unknown words and longest copies of what the network and both write."""
    from slimpajama.model.generate.text import generate_texts

    known = pc.unique(train["words"].combine_chunks().flatten())
    documents = "\0".join("".join(words) for words in train["words"].to_pylist())
    found: dict[str, Any] = {"speed": [], "unknown": {}, "copied": {}}
    for lang in LANGUAGES:
        words = [one.words for one in held if one.lang == lang]
        found["unknown"][lang], found["copied"][lang] = [unknown(words, known)], []
    cfg = GenerateConfig(max_tokens=NEW_TOKENS)
    for model in models:
        written, spent = 0, 0.0
        for lang in LANGUAGES:
            prompts = [one.ids[:PROMPT_TOKENS] for one in held if one.lang == lang and len(one.ids) > NEW_TOKENS]
            begun, texts = time.process_time(), []
            for number, ids in enumerate(prompts[:SAMPLES]):
                texts += generate_texts(model, tokenizer, tokenizer.decode(ids), replace(cfg, seed=number))
            spent += time.process_time() - begun
            written += sum(len(tokenizer.encode(text)) for text in texts)
            found["unknown"][lang].append(unknown([tokenizer.segmenter.cut(text)[:-1] for text in texts], known))
            found["copied"][lang].append(max(longest_copy(text, documents) for text in texts))
        found["speed"].append(written / spent)
    return found


def unknown(texts: Iterable[Sequence[str]], known: pa.Array) -> float:
    """Return the share of words that stand in no training document; spaces and signs alone are no words."""
    words = pa.array([word for text in texts for word in text if any(map(str.isalnum, word))], known.type)
    return 1 - pc.sum(pc.is_in(words, known)).as_py() / len(words)


def longest_copy(text: str, documents: str) -> float:
    """Return the words of the longest stretch of a text that stands in a document; an ideograph is half a word."""
    from slimpajama.model.memory.copies import UNIT

    units, longest, end = [*UNIT.finditer(text)], 0.0, 0
    for begin in range(len(units)):
        end = max(end, begin)
        while end < len(units) and text[units[begin].start() : units[end].end()] in documents:
            end += 1
        longest = max(longest, sum(0.5 if unit[1] else 1.0 for unit in units[begin:end]))
    return longest


def main() -> None:
    """Run what is missing and write the page."""
    args = parser_of(__doc__, [*PARTS]).parse_args()
    if args.list:
        print("\n".join(PARTS))
        return
    if args.here:
        print(json.dumps(run_part(args.workspace, PARTS[args.here])))
        return
    results = args.cache / "lookup"
    for name in args.only:
        prepare = demo_workspace if PARTS[name].corpus == "demo" else workspace_of
        run_anew("benchmarks.lookup", name, results / f"{name}.json", "--workspace", prepare(args.cache))
    files = {name: results / f"{name}.json" for name in PARTS}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    page = write_page(found)
    (DOCS / "lookup.md").write_text(page, encoding="utf-8")
    print(page)


def write_page(found: dict[str, dict[str, Any]]) -> str:
    """Return the page over all parts that were run."""
    lines = [
        "# Looking the corpus up, measured\n",
        f"`python -m benchmarks.lookup`: one thread; {MINUTES:g} minutes of processor time on the benchmark corpus"
        " (`docs`),\nor so many tokens of the demo's text (`demo`) in float32. Each row names the commit that it was"
        " measured at.\n",
        conditions("torch", "numba", "pydivsufsort") + "\n",
        NOTE,
        *(table([line(name, row) for name, row in found.items()]) + "\n" for line in (_bits, _time, _written)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _bits(name: str, row: dict[str, Any]) -> dict[str, object]:
    line: dict[str, object] = {"model": name, "trained on": f"{row['tokens']:,}", "memory of": f"{row['corpus']:,}"}
    for lang in LANGUAGES:
        network, both = row["bits"][lang]
        line |= {f"network {lang}": f"{network:.3f}", f"both {lang}": f"{both:.3f} ({both / network - 1:+.1%})"}
    return line | {"precision": row["precision"], "commit": row["commit"]}


def _time(name: str, row: dict[str, Any]) -> dict[str, object]:
    line: dict[str, object] = {
        "model": name,
        "index, CPU-s": f"{row['index_s']:.1f}",
        "weights, CPU-s": f"{row['weights_s']:.1f}",
        "of the night": f"{row['share']:.1%}",
        "scoring takes": f"{row['score'][1] / row['score'][0]:.2f}x",
        "generates, tokens a CPU-s": f"{row['speed'][1]:,.0f} ({row['speed'][1] / row['speed'][0]:.2f}x)",
    }
    for lang in LANGUAGES:
        network, both = row["compressed"][lang]
        line[f"compressed {lang}"] = f"{network:,} to {both:,} ({both / network - 1:+.0%})"
    return line


def _written(name: str, row: dict[str, Any]) -> dict[str, object]:
    line: dict[str, object] = {"model": name}
    for lang in LANGUAGES:
        held, network, both = row["unknown"][lang]
        line[f"unknown words {lang}: held out, network, both"] = f"{held:.1%}, {network:.1%}, {both:.1%}"
        line[f"longest copy {lang}, words: network, both"] = ", ".join(f"{n:g}" for n in row["copied"][lang])
    return line


if __name__ == "__main__":
    main()
