"""No parrot: a text that is written may not copy more than some words in a row out of one document of the corpus."""

import re
from collections.abc import Sequence

import numpy as np

from slimpajama.model.memory.contexts import Corpus
from slimpajama.text.suffixes import longest
from slimpajama.text.tokenizer import Tokenizer

# An ideograph, kana or Hangul syllable, of which two weigh as much as a word; or a word.
_CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
UNIT = re.compile(rf"([{_CJK}])|(?:(?![{_CJK}])[^\W_])+")
# What a word's edges, and words that are cut otherwise than in the document, may hide of a copy.
_SPARE_WORDS = 2
# Of a word, on an average over as many as may be copied; and bytes before a copy that are encoded with it.
_TOKENS, _BEFORE = 8, 24


class CopyGuard:
    """Tells whether the end of a text is a copy that is too long.

    Args:
        corpus: What is not to be copied.
        max_words: Most words in a row, an ideograph being half a word.
    """

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, max_words: int) -> None:
        self._corpus, self._tokenizer, self._words = corpus, tokenizer, max(1, max_words - _SPARE_WORDS)

    def allows(self, tokens: Sequence[int]) -> bool:
        """Return whether the text of these tokens does not end in a copy that is too long."""
        text = self._tokenizer.decode_bytes(tokens[-self._words * _TOKENS :])
        whole, half = self._size(text, self._words), self._size(text, self._words / 2)
        # A model may spell a word in other tokens than its documents do. So the text is encoded anew, which takes a
        # while; but only where half of a copy stands there in the model's own tokens.
        if not whole or not half or not self._is_copied(tokens, half):
            return True
        # The words before it may change how it is cut.
        ids = self._tokenizer.encode(text[-whole - _BEFORE :].decode(errors="ignore"))
        return not self._is_copied(ids, whole)

    def _is_copied(self, tokens: Sequence[int], size: int) -> bool:
        """Return whether the last tokens, of `size` bytes at least, stand in a row in a document."""
        ids = np.array(tokens[-size:], np.int64)
        sizes = np.cumsum(self._tokenizer.token_bytes[ids][::-1])
        copied = ids[len(ids) - 1 - int(np.searchsorted(sizes, size)) :]
        return any(
            longest(part, copied.astype(part.ids.dtype), 0, len(copied))[0] == len(copied)
            for part in self._corpus.parts
        )

    def _size(self, text: bytes, words: float) -> int | None:
        """Return how many bytes the last words of a text take; None where it has fewer."""
        chars, counted = text.decode(errors="ignore"), 0.0
        for unit in reversed(list(UNIT.finditer(chars))):
            counted += 0.5 if unit[1] else 1.0
            if counted >= words:
                return len(chars[unit.start() :].encode())
        return None
