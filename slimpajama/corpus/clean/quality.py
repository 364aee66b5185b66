"""The measured signals of each document, as they are stored in `quality`, whatever rules are in force."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.schema import QUALITY
from slimpajama.corpus.clean.language import identify
from slimpajama.corpus.clean.repetition import WORDS, ngram_repetition, repeats
from slimpajama.corpus.clean.rules import MOSTLY_HAN
from slimpajama.corpus.clean.signals import HAN_PER_WORD, LINES, scan
from slimpajama.text.buffers import text_buffers

Column = npt.NDArray[Any]
# What text that was read in a wrong encoding is told by: sequences that hardly stand in any other text. Of 12,000
# documents of both languages, 4 have one, none has one in 1,000 characters (docs/benchmarks/encodings.md).
MOJIBAKE = "|".join(
    (
        # What stands for bytes that were lost, itself read in a wrong encoding, and what a debugger fills memory with.
        "\ufffd{2}|ï¿½|锟斤拷|锟届|烫{4}|屯{4}",
        # UTF-8 as a Western encoding: é, ’, ideographs.
        "[ÂÃ][\xa1-\xbf]|â€[^ \n]",
        "[ä-é][¢-©¬-¹¼-¾\u0152-\u017e\u02c6\u2018-\u2022€™]",
        # GBK as a Western encoding.
        "(?:[°-÷][¡-þ]){4}",
        # UTF-8 as GBK: the first byte of a comma, a full stop, and of common ideographs.
        "[锛銆][\u4e00-\u9fff]|[鐨鏄鍦鎴]",
        # Big5 as GB18030: its punctuation becomes private characters, which fonts of icons have at other places.
        "[\ue4c6-\ue4cf]",
        # Big5 as GBK, and GBK as Big5: letters of other scripts inside of words.
        "[\u3041-\u30ff\u4e00-\u9fff][ㄅ-ㄩ﹙﹚┝-┲ΑΒΕ-ΗΙΚΜ-ΟΡΤΥΧ\u0400-\u04ff][\u3041-\u30ff\u4e00-\u9fff]",
    )
)
# Measured, but no column of the published tables: those of all nights have the same ones.
_MEASURED = pa.struct([*QUALITY, pa.field("mojibake", pa.float32())])


def measure(texts: pa.LargeStringArray) -> tuple[list[str], Column, pa.StructArray]:
    """Return language, length in characters (int64 [N]) and signals (QUALITY, and `mojibake`) of N normalised texts."""
    offsets, data = text_buffers(texts)
    found = scan(offsets, data)
    count = found.counts
    languages = identify(offsets, data, count)
    han_share = _share(count["han"], count["content"])
    ideographs = count["han"] + count["kana"]
    runs, runs_chars = count["units"] - ideographs, count["unit_chars"] - ideographs
    words = runs + ideographs / HAN_PER_WORD
    lines = count["lines"]
    chinese = han_share >= MOSTLY_HAN
    widths = np.where(chinese[:, None], [n * HAN_PER_WORD for n in WORDS], WORDS)
    line_repeats, paragraph_repeats = repeats(found.lines), repeats(found.paragraphs)
    ngrams = ngram_repetition(found.units, widths)
    signals: dict[str, Column] = {
        "content_chars": count["content"],
        "han_share": han_share,
        "lang_zh": languages.zh,
        "lang_en": languages.en,
        "lang_reliable": languages.reliable,
        "words": words,
        "word_length": np.where(chinese, _share(count["unit_chars"], words), _share(runs_chars, runs)),
        "symbols_per_word": _share(np.maximum(count["hashes"], count["ellipses"]), words),
        "alphabetic": _share(count["alphabetic"], count["units"] + count["symbols_alone"]),
        "stop_words": count["stop_words"],
        "curly_brackets": count["curly"],
        "lorem_ipsum": count["lorem_ipsum"],
        "line_length": _share(count["line_chars"], lines),
        "lines_per_word": _share(count["newlines"], words),
        **{kind: _share(count[kind], lines) for kind in LINES},
        "dup_lines": line_repeats[:, 0],
        "dup_line_chars": line_repeats[:, 1],
        "dup_paragraphs": paragraph_repeats[:, 0],
        "dup_paragraph_chars": paragraph_repeats[:, 1],
        "mojibake": 1000 * _share(pc.count_substring_regex(texts, MOJIBAKE).to_numpy(), count["chars"]),
        **{f"{'top' if n < 5 else 'dup'}_{n}gram": ngrams[:, place] for place, n in enumerate(WORDS)},
    }
    arrays = [pa.array(signals[field.name]).cast(field.type) for field in _MEASURED]
    return languages.codes, count["chars"], pa.StructArray.from_arrays(arrays, fields=list(_MEASURED))


def measure_text(text: str) -> dict[str, Any]:
    """Return the signals of one normalised text."""
    quality: dict[str, Any] = measure(pa.array([text], pa.large_string()))[2][0].as_py()
    return quality


def _share(part: Column, whole: Column) -> Column:
    """Return `part / whole`, 0 where there is nothing to have a share of."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
