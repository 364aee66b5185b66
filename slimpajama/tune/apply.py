"""The applications of a tuned model: summaries, translations and answers of any text.

A summary of a text longer than the model reads at once is one of the summaries of its parts. A translation goes
sentence by sentence, and keeps lines and blank lines as they stand. An answer is looked for in every passage of its
context; the likeliest is given, with the sentence that it rests on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from slimpajama.config import ApplyConfig
from slimpajama.device import one_thread
from slimpajama.errors import InputError
from slimpajama.generate.beam import Found, beam_search
from slimpajama.model.pair import PairModel
from slimpajama.tokenizer import Tokenizer
from slimpajama.tune.examples import ANSWER, SUMMARIZE, Ids, encode_texts, padded, windows
from slimpajama.tune.metrics import units
from slimpajama.tune.retrieve import Source

__all__ = ["Answer", "Tuned", "sentences"]

# Behind a mark that ends a sentence in either language, with the quotes and brackets that close behind it.
_SENTENCE_END = re.compile(r"(?<=[。！？；!?])[”’」』）)\"']*\s*|(?<=[.])[”’)\"']*\s+")


def sentences(line: str) -> list[str]:
    """Return a line's sentences, which join back to it exactly."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    return [part for part in (line[a:b] for a, b in zip([0, *ends], [*ends, len(line)], strict=True)) if part]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on."""

    text: str
    passage: str
    """The sentence that holds it, or the most of its words."""
    score: float
    """Log-likelihood a token: near 0 is sure."""


class Tuned:
    """A tuned model, ready for use.

    Args:
        model: What was tuned.
        tokenizer: Its champion's.
        source_tokens, target_tokens: What it was tuned to read and write at most.
    """

    def __init__(self, model: PairModel, tokenizer: Tokenizer, source_tokens: int, target_tokens: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.source_tokens, self.target_tokens = source_tokens, target_tokens

    def write(self, source: Ids, kind: str, cfg: ApplyConfig, least: int = 1, most: int = 0) -> Found:
        """Return the best target of a source's tokens.

        Raises:
            InputError: The model was not tuned for it.
        """
        if kind not in self.model.kinds:
            raise InputError(
                "the model was not tuned for this", found=kind, expected=", ".join(self.model.kinds),
                hint="Add such pairs to pairs.sources and run `slimpajama tune`.",
            )  # fmt: skip
        model, row = self.model, self.model.row_tokens
        device = next(model.parameters()).device
        source_1S = padded([source], row if len(source) > row else model.chunk_tokens, model.vocab_size)
        with one_thread():
            return beam_search(
                model, model.remember(torch.from_numpy(source_1S).to(device)), model.kinds.index(kind),
                self.tokenizer.document_id, beams=cfg.beams, least=least, most=min(most or self.target_tokens, row - 1),
                length_penalty=cfg.length_penalty, no_repeat=cfg.no_repeat,
            )[0]  # fmt: skip

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the tokens of texts.

        Raises:
            InputError: One is not valid Unicode.
        """
        try:
            return encode_texts(pa.array(texts, pa.large_string()), self.tokenizer)
        except UnicodeEncodeError:
            raise InputError("the text is not valid Unicode") from None

    def apply(self, task: str, source: str, question: str, lang: str, cfg: ApplyConfig) -> str:
        """Return what the model makes of the source of a pair."""
        if task == "summarization":
            return self.summarize(source, cfg)
        if task == "translation":
            return "".join(self.translate(source, lang, cfg))
        return self.answer(question, source, cfg).text

    @torch.inference_mode()
    def summarize(self, text: str, cfg: ApplyConfig) -> str:
        """Return a summary of a text of any length."""
        (source,) = self.encode([_needed(text, "text")])
        while len(source) > self.source_tokens:
            parts = [
                source[at : at + self.source_tokens] for at in range(0, len(source), self.source_tokens)
            ]  # the last may be short: a summary of little is little
            (source,) = self.encode(["\n".join(self._summary(part, cfg) for part in parts)])
        return self._summary(source, cfg)

    def _summary(self, source: Ids, cfg: ApplyConfig) -> str:
        return self.tokenizer.decode(self.write(source, SUMMARIZE, cfg, cfg.min_tokens, cfg.max_tokens).tokens).strip()

    def translate(self, text: str, to: str, cfg: ApplyConfig) -> Iterator[str]:
        """Yield the translation in pieces, line by line; white space and lines without a letter stay as they are."""
        _needed(text, "text")
        for line in text.splitlines(keepends=True):
            for sentence in sentences(line):
                body = sentence.strip()
                if not any(char.isalpha() for char in body):
                    yield sentence
                    continue
                lead, tail = sentence[: sentence.index(body)], sentence[sentence.index(body) + len(body) :]
                yield lead + self._translation(body, to, cfg) + tail

    @torch.inference_mode()
    def _translation(self, text: str, to: str, cfg: ApplyConfig) -> str:
        (source,) = self.encode([text])
        parts = [source[at : at + self.target_tokens] for at in range(0, len(source), self.target_tokens)]
        found = [self.write(part, f"translate-{to}", cfg, most=cfg.max_tokens) for part in parts]
        return "".join(self.tokenizer.decode(one.tokens) for one in found).strip()

    @torch.inference_mode()
    def answer(self, question: str, context: str, cfg: ApplyConfig) -> Answer:
        """Return the likeliest answer to a question about a text of any length."""
        asked, source = self.encode([_needed(question, "question"), _needed(context, "context")])
        step = self.source_tokens // 2  # passages overlap by half: no answer is cut in all of them
        passages = [source[at : at + 2 * step] for at in range(0, max(1, len(source) - step), step)]
        wanted = set(units(question))
        shared = [len(wanted & set(units(self.tokenizer.decode(passage)))) for passage in passages]
        best: tuple[Found, Ids] | None = None
        for number in np.argsort(-np.array(shared), kind="stable")[: cfg.passages].tolist():
            sizes = self.model.row_tokens, self.source_tokens
            read = windows(passages[number], asked, self.tokenizer.document_id, *sizes)
            found = self.write(read, ANSWER, cfg, most=cfg.max_tokens)
            if best is None or found.score > best[0].score:
                best = found, passages[number]
        assert best is not None
        text = self.tokenizer.decode(best[0].tokens).strip()
        return Answer(text, _support(text, self.tokenizer.decode(best[1])), best[0].score)

    def answer_from(self, sources: Sequence[Source], question: str, cfg: ApplyConfig) -> tuple[Answer, str]:
        """Return the likeliest answer in several documents, and the id of the one that it is from.

        Raises:
            InputError: There is none.
        """
        if not sources:
            raise InputError("no document has a word of the question", found=question[:80])
        found = [(self.answer(question, source.text, cfg), source.id) for source in sources]
        return max(found, key=lambda item: item[0].score)


def _needed(text: str, what: str) -> str:
    if not any(char.isalnum() for char in text):
        raise InputError(f"the {what} is empty", expected="a letter, digit or ideograph")
    return text


def _support(answer: str, passage: str) -> str:
    """Return the sentence of a passage that holds the answer, or else the most of its words."""
    found = [sentence for line in passage.splitlines() for sentence in sentences(line)]
    wanted = set(units(answer))
    shares = [(answer in one, len(wanted & set(units(one)))) for one in found]
    return found[int(np.argmax([whole * 1000 + share for whole, share in shares]))].strip() if found else ""
