"""Which words carry content: no stop word, and at least one letter, digit or ideograph.

Source and licence: the lists are those of stopwords-iso (https://github.com/stopwords-iso/stopwords-iso, MIT licence,
copyright its contributors), by way of the package `stopwordsiso` (MIT); nothing of them lies in this repository.
Their hash is part of the stage's fingerprint, so another version of the package makes other `content_words` knowingly.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import stopwordsiso

from slimpajama.core.config import TextConfig

LICENCE = "stopwords-iso, MIT"


@cache
def stop_words(languages: tuple[str, ...]) -> frozenset[str]:
    """Return the built-in lists of some languages (`zh`, `en`), in lower case, with straight apostrophes."""
    words = pa.array(sorted({word for lang in languages for word in stopwordsiso.stopwords(lang)}), pa.string())
    return frozenset(_folded(words).to_pylist())


def _folded(words: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring(pc.utf8_lower(pc.utf8_trim_whitespace(words)), "’", "'")


def content_flags(words: pa.StringArray, cfg: TextConfig) -> npt.NDArray[np.bool_]:
    """Say of each word whether it carries content.

    Args:
        words: Words as a `Segmenter` cuts them; a space in front does not matter. Give each different word once:
            this takes several times as long as to look its answer up.
        cfg: `stop_words` names the lists.

    Returns:
        One flag a word: False for stop words, punctuation, symbols and white space.
    """
    stopped = pc.is_in(_folded(words), value_set=pa.array(sorted(stop_words(cfg.stop_words)), pa.string()))
    content = pc.match_substring_regex(words, r"[\p{L}\p{N}]")
    return np.asarray(pc.and_not(content, stopped), dtype=bool)
