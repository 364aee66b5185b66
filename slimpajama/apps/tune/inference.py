"""The applications of a tuned model: summaries, translations and answers of any text.

A summary of a text longer than the model reads at once is one of the summaries of its parts. A translation goes
sentence by sentence, and keeps lines and blank lines as they stand. An answer is looked for in every passage of its
context; the likeliest is given, with the sentence that it rests on.

Each kind of target has a *strategy* for each language of its source, for answers of the question. It is the one that
did best on validation pairs: WRITTEN by the model, QUOTED from the source, or for translations the DRAFT as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from slimpajama.apps.tune.examples import (
    ANSWER,
    SUMMARIZE,
    Ids,
    drafted,
    encode_texts,
    kind_of,
    padded,
    places_of,
    windows,
)
from slimpajama.apps.tune.metrics import HAN, units
from slimpajama.apps.tune.phrases import Dictionary
from slimpajama.apps.tune.retrieve import Source
from slimpajama.apps.tune.spans import Quote, answer_spans, best_quote, sentence_runs, sentence_spans, sentences
from slimpajama.core.config import ApplyConfig
from slimpajama.core.errors import InputError
from slimpajama.corpus.pairs.rules import language
from slimpajama.model.architectures.seq2seq import Memory, PairModel
from slimpajama.model.device import device_of, one_thread
from slimpajama.model.generate.beam import Found, beam_search
from slimpajama.model.generate.sampling import Spend, without_bound
from slimpajama.text.tokenizer import Tokenizer

WRITTEN, QUOTED, DRAFT = "written", "quoted", "draft"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on."""

    text: str
    passage: str
    """The sentence that holds it, or the most of its words."""
    score: float
    """How likely, for comparing answers to one question: log-likelihood a token, or the logits of a quote's ends."""


def language_of(text: str) -> str:
    """Return `zh` or `en`."""
    return str(pl.DataFrame({"text": [text]}).select(language("text")).item())


def strategies_of(kind: str) -> tuple[str, ...]:
    """Return the strategies for a kind; the first one counts where nothing was measured."""
    return (WRITTEN, QUOTED) if kind in (SUMMARIZE, ANSWER) else (WRITTEN, DRAFT)


@dataclass
class Tuned:
    """A tuned model, ready for use."""

    model: PairModel
    tokenizer: Tokenizer
    """Its champion's."""
    dictionary: Dictionary
    """Of the pairs that it was tuned on."""
    strategies: Mapping[str, str]
    """By kind and language, `summarize/zh` for one."""
    source_tokens: int
    """What it was tuned to read at most."""
    target_tokens: int
    """And to write."""
    spend: Spend = without_bound
    """Told of every token that is read or written; it may end the work by an exception."""

    def strategy(self, kind: str, text: str) -> str:
        """Return the strategy that serves a kind for a source or question in the language of this one."""
        return self.strategies.get(f"{kind}/{language_of(text)}", strategies_of(kind)[0])

    def number_of(self, kind: str) -> int:
        """Return a kind's number.

        Raises:
            InputError: The model was not tuned for it.
        """
        if kind not in self.model.kinds:
            raise InputError(
                "the model was not tuned for this",
                found=kind,
                expected=", ".join(self.model.kinds),
                hint="Add such pairs to pairs.sources and run `slimpajama tune`.",
            )
        return self.model.kinds.index(kind)

    def read(self, source: Ids, kind: str) -> Memory:
        """Return the memory of a source's tokens."""
        row, number = self.model.row_tokens, self.number_of(kind)
        self.spend(len(source))
        source_1S = padded([source], row if len(source) > row else self.model.chunk_tokens, self.model.vocab_size)
        device = device_of(self.model)
        with one_thread():
            return self.model.remember(torch.from_numpy(source_1S).to(device), torch.tensor([number], device=device))

    def write(self, source: Ids, kind: str, cfg: ApplyConfig, least: int = 1, most: int = 0) -> Found:
        """Return the best target of a source's tokens."""
        memory, most = self.read(source, kind), min(most or self.target_tokens, self.model.row_tokens - 1)
        with one_thread():
            number = self.number_of(kind)
            return beam_search(self.model, memory, number, cfg, least=least, most=most, spend=self.spend)[0]

    def quote(self, source: Ids, kind: str, spans: NDArray[np.int64]) -> Quote | None:
        """Return the best of some spans (first and last token) of a source."""
        return best_quote(self.read(source, kind).quote_B2S[0].cpu().numpy(), spans)

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
        """Return what the model makes of the source of a pair; of a text, of as much as pairs are learnt from."""
        if task == "summarization":
            (ids,) = self.encode([_needed(source, "text")])
            read = self.tokenizer.decode_bytes(ids[: self.source_tokens]).decode("utf-8", "ignore")  # whole characters
            return self.summarize(read, cfg)
        if task == "translation":
            return "".join(self.translate(source, lang, cfg))
        return self.answer(question, source, cfg).text

    @torch.inference_mode()
    def summarize(self, text: str, cfg: ApplyConfig) -> str:
        """Return a summary of a text of any length; a quoted one is out of its beginning, which is read at once."""
        (source,) = self.encode([_needed(text, "text")])
        if self.strategy(SUMMARIZE, text) == QUOTED:
            read = source[: self.source_tokens]
            if quote := self.quote(read, SUMMARIZE, sentence_runs(sentence_spans(read, self.tokenizer))):
                return self.tokenizer.decode(read[quote.first : quote.last + 1]).strip()
        before = len(source) + 1
        while self.source_tokens < len(source) < before:
            # The last may be short: a summary of little is little.
            parts = [source[at : at + self.source_tokens] for at in range(0, len(source), self.source_tokens)]
            before = len(source)
            (source,) = self.encode(["\n".join(self._summary(part, cfg) for part in parts)])
        return self._summary(source[: self.source_tokens], cfg)

    def _summary(self, source: Ids, cfg: ApplyConfig) -> str:
        return self.tokenizer.decode(self.write(source, SUMMARIZE, cfg, cfg.min_tokens, cfg.max_tokens).tokens).strip()

    def translate(self, text: str, to: str, cfg: ApplyConfig) -> Iterator[str]:
        """Yield the translation in pieces; white space and sentences without a foreign letter stay as they are.

        Raises:
            InputError: The whole text is such, or the model was not tuned for the language.
        """
        self.number_of(kind_of("translation", to))
        if not _is_foreign(_needed(text, "text"), to):
            raise InputError("nothing to translate", expected="another language", found=f"a text in {to}")
        for line in text.splitlines(keepends=True):
            for sentence in sentences(line):
                body = sentence.strip()
                if not _is_foreign(body, to):
                    yield sentence
                    continue
                lead, tail = sentence[: sentence.index(body)], sentence[sentence.index(body) + len(body) :]
                yield lead + self._translation(body, to, cfg) + tail

    @torch.inference_mode()
    def _translation(self, text: str, to: str, cfg: ApplyConfig) -> str:
        kind = kind_of("translation", to)
        # A draft costs none, but of a long text there are many.
        self.spend(0)
        draft = str(self.dictionary.drafts(pa.array([text], pa.large_string()), to, self.tokenizer.segmenter)[0])
        if self.strategy(kind, text) == DRAFT:
            return draft
        source, drafted_ = self.encode([text, draft])
        # Only where a sentence is very long.
        parts = -(-max(len(source), len(drafted_)) // self.target_tokens)
        found = [
            self.write(drafted(*both, self.tokenizer.document_id, self.source_tokens), kind, cfg, most=cfg.max_tokens)
            for both in zip(np.array_split(source, parts), np.array_split(drafted_, parts), strict=True)
        ]
        return "".join(self.tokenizer.decode(one.tokens) for one in found).strip()

    @torch.inference_mode()
    def answer(self, question: str, context: str, cfg: ApplyConfig) -> Answer:
        """Return the likeliest answer to a question about a text of any length."""
        asked, source = self.encode([_needed(question, "question"), _needed(context, "context")])
        # Passages overlap by half: no answer is cut in all of them.
        step = self.source_tokens // 2
        passages = [source[at : at + 2 * step] for at in range(0, max(1, len(source) - step), step)]
        wanted = set(units(question))
        shared = []
        for passage in passages:
            self.spend(0)
            shared.append(len(wanted & set(units(self.tokenizer.decode(passage)))))
        # Not the context's: answers out of several are compared by their scores.
        strategy = self.strategy(ANSWER, question)
        best: tuple[float, str, Ids] | None = None
        for number in np.argsort(-np.array(shared), kind="stable")[: cfg.passages].tolist():
            score, text = self._answer(passages[number], asked, strategy, cfg)
            if best is None or score > best[0]:
                best = score, text, passages[number]
        assert best is not None
        return Answer(best[1], _support(best[1], self.tokenizer.decode(best[2])), best[0])

    def _answer(self, passage: Ids, asked: Ids, strategy: str, cfg: ApplyConfig) -> tuple[float, str]:
        """Return how likely the best answer in a passage is, and the answer."""
        row = self.model.row_tokens
        read = windows(passage, asked, self.tokenizer.document_id, row, self.source_tokens)
        if strategy == QUOTED:
            logits_2S = self.read(read, ANSWER).quote_B2S[0].cpu().numpy()
            logits_2S = logits_2S[:, places_of(np.arange(len(passage)), len(asked), row)]
            quote = best_quote(logits_2S, answer_spans(passage, self.tokenizer))
            if quote is None:
                return -np.inf, ""
            return quote.score, self.tokenizer.decode(passage[quote.first : quote.last + 1]).strip()
        found = self.write(read, ANSWER, cfg, most=cfg.max_tokens)
        return found.score, self.tokenizer.decode(found.tokens).strip()

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


def _is_foreign(text: str, lang: str) -> bool:
    """Return whether a text has a letter that this language, Chinese or English, is not written in."""
    return any(char.isalpha() and bool(HAN.match(char)) == (lang != "zh") for char in text)


def _support(answer: str, passage: str) -> str:
    """Return the sentence of a passage that holds the answer, or else the most of its words."""
    found = [sentence for line in passage.splitlines() for sentence in sentences(line)]
    wanted = set(units(answer))
    shares = [(answer in one, len(wanted & set(units(one)))) for one in found]
    return found[int(np.argmax([whole * 1000 + share for whole, share in shares]))].strip() if found else ""
