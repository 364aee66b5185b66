"""Questions that a text brings with it: a sentence with a name left out, to be found in the sentences around it.

Questions that people asked about a passage were found in no small package. A gap in place of a name is what the first
large sets of questions were made of: Hermann et al. 2015 and Hill et al. 2016 (English), Cui et al. 2016 (the People's
Daily, as here). It asks for less than a person does, and is called by its name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

GAP = "____"
# Most questions of a passage: with more, a few texts would make most questions.
QUESTIONS = 2
# A sentence ends with its line, or after a mark and quotes: in English before white space and not after an initial.
_SENTENCE = re.compile(r"[^\n]+?(?:[。！？][”’』）]*|(?<!\b[A-Z])[.!?][\"”’)]*(?=\s|$)|(?=\n|$))")
# A whole sentence is no heading, no remark in brackets and no half of a speech.
_WHOLE = re.compile(r"[^（“].*[。！？.!?][”’』\"]*")
_PASSAGE_CHARS = {"zh": 600, "en": 1500}
_SENTENCE_CHARS = {"zh": range(14, 100), "en": range(40, 260)}
# A name does not stand at a sentence's beginning.
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*")
_NO_NAMES = frozenset(
    (
        "The January February March April May June July August September October November December "
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
    ).split()
)


def english_names(text: str) -> tuple[str, ...]:
    """Return the words with a capital inside sentences, several in a row as one, without months and days."""
    return tuple(name for name in dict.fromkeys(_NAME.findall(text)) if name not in _NO_NAMES)


def passages(text: str, most_chars: int) -> Iterator[str]:
    """Yield whole lines of a text together, up to so many characters."""
    lines: list[str] = []
    for line in (line for line in text.split("\n") if line.strip()):
        if lines and sum(map(len, lines)) + len(line) > most_chars:
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    if lines:
        yield "\n".join(lines)


def questions(
    passage: str, names: Iterable[str], lang: str, texts_with: Mapping[str, int]
) -> Iterator[tuple[str, str, str]]:
    """Yield a passage without one of its sentences, that sentence with a gap, and the name that belongs there.

    The name stands once in the sentence, and in what is left; an English one as a whole word. Those that fewest texts
    have (`texts_with`) come first: they are what the passage is about, and cannot be guessed.
    """
    spans = [match.span() for match in _SENTENCE.finditer(passage)]
    used: set[tuple[int, int]] = set()
    repeated = (name for name in dict.fromkeys(names) if passage.count(name) > 1)
    for name in sorted(repeated, key=lambda name: (texts_with[name], passage.find(name))):
        # A name is introduced before it is used.
        for begin, end in reversed(spans):
            sentence = passage[begin:end].strip()
            if sentence.count(name) != 1 or (begin, end) in used or len(sentence) not in _SENTENCE_CHARS[lang]:
                continue
            rest = f"{passage[:begin].rstrip(' ')}{passage[end:]}".strip()
            whole = re.compile(rf"(?<![A-Z]\. )\b{re.escape(name)}\b(?! [A-Z])" if lang == "en" else re.escape(name))
            if _WHOLE.fullmatch(sentence) and whole.search(sentence) and whole.search(rest):
                used.add((begin, end))
                yield rest, whole.sub(GAP, sentence), name
                break
        if len(used) == QUESTIONS:
            return


def rows(texts: list[tuple[str, str, Sequence[str]]], lang: str) -> Iterator[dict[str, str]]:
    """Yield gap questions about texts, each given with its title and the names in it."""
    texts_with = Counter(name for _, _, names in texts for name in set(names))
    for title, text, names in texts:
        for passage in passages(text, _PASSAGE_CHARS[lang]):
            for rest, question, name in questions(passage, names, lang, texts_with):
                yield {"source": rest, "question": question, "target": name, "group": title}
