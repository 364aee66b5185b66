"""Bytes of a raw file as text: in the encoding that is set, that it declares, or that it is detected to be in.

Valid UTF-8 is taken as it is, and nothing is detected. Else, where no encoding is set: a byte order mark; what the
format declares (a server's header, a page's `meta`, an XML declaration); detection among UTF-8 with damage, GB18030,
Big5, UTF-16 and, of English, windows-1252. What was detected or replaced becomes a `Note`. Text in none of them is
refused, by the rule `unknown-encoding`, and so is a page that declares a Chinese encoding and is in another one.

The detector is Firefox's, chardetng. It knows no UTF-16 and gives no figure, so a second measure stands beside it, the
confidence: the share of characters in everyday use among those beyond ASCII (of windows-1252, of accents inside words
and of punctuation, each between ASCII). Both must agree, unless one of GB18030 and
Big5 has twice the share of the other. Chinese text in the right encoding has 0.96 or more, in a wrong one seldom above
0.6 (docs/benchmarks/encodings.md).
"""

import codecs
import contextlib
import re
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import chain
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from chardetng_py import EncodingDetector

from slimpajama.core.encodings import UTF16, codec_of
from slimpajama.corpus.sources.records import (
    BOM,
    MARK,
    Chunk,
    Note,
    ReadOptions,
    RejectedRecord,
    decoded,
    most_marks,
    noted,
)
from slimpajama.corpus.sources.streams import UntilBroken, blocks

AUTO = "auto"
# Bytes from the first one beyond ASCII by which an encoding is detected.
SAMPLE = 1 << 14
# Least confidence, and where GB18030 and Big5 differ by half, as of a few words among much ASCII.
LEAST, CLEAR = 0.8, 0.65
# A page that is valid UTF-8 with so many characters beyond ASCII is UTF-8 whatever it declares; fewer may be so by
# chance: GBK's 联通 is.
MANY = 20
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    BOM.encode("gb18030"): "gb18030",
}
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_CHINESE = ("gb18030", "cp950", "big5hkscs")
_EAST_ASIAN = (*_CHINESE, "cp932", "cp949", "euc_jp", "euc_kr", "iso2022_jp")
_NAMES = {"cp950": "Big5", "big5hkscs": "Big5-HKSCS", "cp1252": "windows-1252"}
_WANTED = "UTF-8, GB18030, Big5, UTF-16 or English in windows-1252; for another one set `encoding`"
# UTF-16 has these bytes in ASCII and in a tenth of all ideographs, other text hardly one.
_CONTROLS, _LEAST_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\v\f\r\x1b")), 0.01
# Bytes behind a wrong one by which is judged where the next character begins, and how much more everyday a text that
# begins later must be.
_AHEAD, _MORE = 64, 0.25
# Marks that are worth the search, for each that a text may have: it takes some microseconds.
_SEARCHED = 8
RESUME = "slimpajama-resume"
# What stands beyond ASCII in English, each by itself: letters of names and borrowed words, and punctuation, of which
# only an apostrophe or a dash stands inside a word.
_ACCENTS, _CAPITALS = "à-ïñ-öø-üÿœšž", "À-ÏÑ-ÖØ-Ü"
_ENGLISH = re.compile(
    rf"(?<![^\0-\x7f])(?:(?<=[A-Za-z])[{_ACCENTS}]|[{_ACCENTS}](?=[a-z])|(?<![A-Za-z])[{_CAPITALS}](?=[a-z])|[’–—]"
    r"|(?<![A-Za-z])[‘“”…•€£©®°§½¼¾×™«»·\u00a0]|[”…®°™»\u00a0](?![A-Za-z]))(?![^\0-\x7f])"
)
# Fewest of them, their least share of all bytes beyond ASCII, and the most of these.
_FEWEST, _MOSTLY, _MOST = 3, 0.95, 0.05
_Codes = npt.NDArray[np.uint32]


class Guess(NamedTuple):
    """What bytes that are no UTF-8 may be in."""

    codec: str = ""
    """Python's name; empty where none of the encodings that are detected fits."""
    confidence: float = 0.0
    """Share of everyday characters among those beyond ASCII."""
    like: str = ""
    """What the detector said."""


class Text(NamedTuple):
    """A document as text."""

    text: str
    notes: list[Note]


def page_encodings(page: bytes) -> list[str]:
    """Return the encodings that a page's first 1,024 bytes name: in a `meta`, then in an XML declaration.

    Source: WHATWG HTML, "prescan a byte stream to determine its encoding".
    """
    start = page[:1024]
    return [found[1].decode("ascii") for found in (_META.search(start), _XML.search(start)) if found]


def decode_document(
    data: bytes, place: str, encoding: str = AUTO, declared: Iterable[str] = ()
) -> Text | RejectedRecord:
    """Return a document's bytes as text without a byte order mark, or why they are none.

    Args:
        data: All of it.
        place: Where it stands in its file.
        encoding: That is set.
        declared: Encodings that its format names, the one to believe first; unknown ones are passed over.
    """
    fixed = codec_of(encoding) if encoding != AUTO else _by_mark(data)
    if fixed:
        return _read(data, place, fixed)
    named = next(_known(declared), "")
    valid = _valid_utf8(data)
    if valid is not None and b"\0" not in data and (named in ("", "utf-8") or len(data) - len(valid) >= 2 * MANY):
        return Text(valid, [])
    told = _read(data, place, named) if named else None
    if isinstance(told, Text) and _fits(told.text, named):
        return told
    if _is_mostly_utf8(data):
        return _read(data, place, "utf-8")
    guess = detect(data)
    if guess.codec:
        found = _read(data, place, guess.codec)
        return found._replace(notes=[_detected(guess), *found.notes]) if isinstance(found, Text) else found
    if isinstance(told, Text) and (named not in _CHINESE or guess.like == named):
        return told
    utf8 = None if told else _read(data, place, "utf-8")
    return utf8 if isinstance(utf8, Text) else _unknown(place, guess)


def page_text(data: bytes) -> str:
    """Return the text of a web page, whatever it is: what is in no encoding that is known is read as UTF-8."""
    read = decode_document(data, "", declared=page_encodings(data))
    return read.text if isinstance(read, Text) else data.decode("utf-8", "replace")


def detect(data: bytes, begins: bool = True) -> Guess:
    """Return what bytes that are no UTF-8 are in.

    Args:
        data: Of which `SAMPLE` bytes are looked at.
        begins: Whether they are the beginning of a file: elsewhere, UTF-16 is not looked for.
    """
    first = _first_beyond_ascii(data)
    sample = data[first : first + SAMPLE]
    like = _like(sample, last=first + SAMPLE >= len(data))
    if like not in _EAST_ASIAN:
        # A single wrong byte rules an encoding out.
        without = (_like(good, last=True) for good in map(partial(_without_wrong, sample), _CHINESE[:2]) if good)
        like = next((codec for codec in without if codec in _CHINESE), like)
    found = Guess(like=like)
    if like in _CHINESE:
        shares = {codec: everyday_share(sample.decode(codec, "replace")) for codec in _CHINESE[:2]}
        best = max(shares, key=lambda codec: shares[codec])
        if shares[best] >= max(CLEAR, 2 * min(shares.values())):
            found = Guess(best, shares[best], like)
        elif shares[like] >= LEAST:
            found = Guess(like, shares[like], like)
    elif like == "cp1252":
        found = Guess(like if (share := _english_share(data[: first + SAMPLE])) >= _MOSTLY else "", share, like)
    even = data[: min(SAMPLE, len(data) // 2 * 2)]
    if begins and len(even.translate(None, _CONTROLS)) < (1 - _LEAST_CONTROLS) * len(even):
        for codec in UTF16[1:]:
            share = everyday_share(even.decode(codec, "replace"), ascii_counts=True)
            if share >= max(LEAST, found.confidence):
                found = Guess(codec, share, like)
    return found


def _like(data: bytes, last: bool) -> str:
    detector = EncodingDetector()
    detector.feed(data, last=last)
    return next(_known([detector.guess(tld=None, allow_utf8=False)]), "")


def _without_wrong(data: bytes, codec: str) -> bytes:
    """Return bytes without those that are not of an encoding; empty where there are none such, or too many."""
    text = data.decode(codec, _marking(data, codec))
    return text.replace(MARK, "").encode(codec, "ignore") if 0 < text.count(MARK) <= most_marks(data) else b""


def _marking(data: bytes, codec: str) -> str:
    """Return what marks wrong bytes: `RESUME` where they are few, since it takes its time."""
    marks = data.decode(codec, "replace").count(MARK) if codec in _CHINESE else 0
    return RESUME if 0 < marks <= _SEARCHED * most_marks(data) else "replace"


def _resume(error: UnicodeError) -> tuple[str, int]:
    """Return a mark for a wrong byte, and where the next character begins: else all up to the next ASCII is shifted."""
    assert isinstance(error, UnicodeDecodeError)
    data, at = error.object, error.start + 1
    behind = (data[begin : begin + _AHEAD].decode(error.encoding, "replace") for begin in range(at, at + 3))
    shares = [everyday_share(text) for text in behind]
    return MARK, at + next(skipped for skipped, share in enumerate(shares) if share >= max(shares) - _MORE)


codecs.register_error(RESUME, _resume)


def _english_share(data: bytes) -> float:
    """Return which share of the bytes beyond ASCII English in windows-1252 would have there; 0 where they are many."""
    n_beyond = int(np.count_nonzero(np.frombuffer(data, np.uint8) >= 0x80))
    found = sum(1 for _ in _ENGLISH.finditer(data.decode("cp1252", "replace")))
    # Half of English in UTF-16 is zeros.
    is_text = b"\0" not in data and found >= _FEWEST and n_beyond <= _MOST * len(data)
    return found / n_beyond if is_text else 0.0


def everyday_share(text: str, ascii_counts: bool = False) -> float:
    """Return the share of characters in everyday use among those beyond ASCII, or among all; 1 where there are none.

    Those beyond ASCII are the ideographs of the first levels of GB 2312 and Big5, and Chinese and English punctuation.
    """
    codes: _Codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _everyday()[codes]
    rare, beyond = np.count_nonzero(kinds == 1), np.count_nonzero(kinds)
    counted = len(kinds) if ascii_counts else int(beyond)
    return 1.0 - int(rare) / counted if counted else 1.0


@cache
def _everyday() -> npt.NDArray[np.uint8]:
    """Return of each code point: 0 for printable ASCII, 2 for everyday use, 1 for others."""
    table = np.ones(0x110000, np.uint8)
    table[[*b"\t\n\r\f", *range(0x20, 0x7F)]] = 0
    first_levels = [("gb2312", 0xB0, 0xD7), ("big5", 0xA4, 0xC6)]
    pairs = (
        (codec, bytes((high, low)))
        for codec, *ends in first_levels
        for high in range(ends[0], ends[1] + 1)
        for low in range(0x40, 0xFF)
    )
    chars = "".join(pair.decode(codec, "ignore") for codec, pair in pairs)
    table[[ord(char) for char in chars if "\u4e00" <= char <= "\u9fff"]] = 2
    table[[0xA0, 0xB7, *range(0x2013, 0x201E), 0x2025, 0x2026, *range(0x3000, 0x3020), *range(0xFF01, 0xFF5F)]] = 2
    return table


def utf8_blocks(stream: Iterable[bytes], encoding: str, notes: list[Note]) -> Iterator[bytes]:
    """Yield the blocks of a table's file as UTF-8, valid or not; what is UTF-8 passes through.

    What is detected depends on `SAMPLE` bytes from the first one beyond ASCII on, not on the blocks.

    Args:
        stream: As the file has them.
        encoding: That is set.
        notes: Takes what there is to say of the file, in passing.

    Raises:
        BrokenStreamError: The stream breaks off; what is before was handed out.
    """
    whole, held, passed = UntilBroken(stream), b"", 0
    codec = "" if encoding == AUTO else codec_of(encoding)
    while not codec:
        block = next(whole, b"")
        if block and not held and block.isascii() and (passed >= SAMPLE or b"\0" not in block):
            passed += len(block)
            yield block
            continue
        held += block
        if not block or len(held) - _first_beyond_ascii(held) >= SAMPLE:
            codec = _codec_of_table(held, passed == 0, notes)
    # Held any longer, it would keep the next blocks out of the processor's cache: 5 % of the time.
    blocks, held, block = chain([held] if held else [], whole), b"", b""
    yield from blocks if codec == "utf-8" else _transcoded(blocks, codec, notes)
    whole.check()


def text_blocks(file: BinaryIO, name: str, options: ReadOptions, notes: list[Note]) -> Iterator[bytes]:
    """Yield the content of an open file as `blocks` does, as UTF-8."""
    return utf8_blocks(blocks(file, name), options.encoding, notes)


def with_notes(chunks: Iterable[Chunk], notes: list[Note]) -> Iterator[Chunk]:
    """Yield chunks, and behind them what there is to say of the file."""
    whole, position = UntilBroken(chunks), 0
    for chunk in whole:
        position = chunk.position
        yield chunk
    if notes:
        yield noted(notes, position)
    whole.check()


def _transcoded(blocks: Iterable[bytes], codec: str, notes: list[Note]) -> Iterator[bytes]:
    decoder, marks, begins = codecs.getincrementaldecoder(codec)("replace"), 0, True
    for block in chain(blocks, [b""]):
        text = decoder.decode(block, final=not block)
        marks += text.count(MARK)
        if text:
            yield (text.removeprefix(BOM) if begins else text).encode()
            begins = False
    if marks:
        notes.append(Note("replaced-bytes", f"{marks} in the file", f"valid {name_of(codec)}"))


def _codec_of_table(data: bytes, begins: bool, notes: list[Note]) -> str:
    """Return the codec of a file's bytes, of which those before are ASCII, if `begins` does not say there are none."""
    marked = _by_mark(data) if begins else ""
    if marked:
        return marked
    first = _first_beyond_ascii(data)
    sample = data[first : first + SAMPLE]
    with contextlib.suppress(UnicodeDecodeError):
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        if not begins or b"\0" not in data:
            return "utf-8"
    guess = Guess() if _is_mostly_utf8(sample) else detect(data, begins)
    if not guess.codec:
        return "utf-8"
    notes.append(_detected(guess))
    return guess.codec


def name_of(codec: str) -> str:
    """Return what people call a codec."""
    return _NAMES.get(codec, codec.upper())


def _read(data: bytes, place: str, codec: str) -> Text | RejectedRecord:
    """Return what bytes are in an encoding, where few enough are not of it."""
    if codec == "cp950":
        # What Taiwan writes; Hong Kong calls its own one Big5, too.
        for exact in ("cp950", "big5hkscs"):
            with contextlib.suppress(UnicodeDecodeError):
                return Text(data.decode(exact), [])
    notes: list[Note] = []
    text = decoded(data, place, notes, codec, _marking(data, codec))
    return text if isinstance(text, RejectedRecord) else Text(text, notes)


def _detected(guess: Guess) -> Note:
    return Note("detected-encoding", f"{name_of(guess.codec)}, confidence {guess.confidence:.2f}", f"at least {LEAST}")


def _unknown(place: str, guess: Guess) -> RejectedRecord:
    like = f", like {name_of(guess.like)}" if guess.like else ""
    return RejectedRecord(place, "unknown-encoding", f"no encoding that is detected{like}", _WANTED)


def _known(names: Iterable[str]) -> Iterator[str]:
    """Yield the codecs of names; one that can be read as ASCII is not UTF-16's."""
    for name in names:
        with contextlib.suppress(LookupError):
            codec = codec_of(name)
            yield "utf-8" if codec in UTF16 else codec


def _by_mark(data: bytes) -> str:
    return next((codec for mark, codec in _BOMS.items() if data.startswith(mark)), "")


def _fits(text: str, codec: str) -> bool:
    """Return whether a text looks like one of the encoding that was declared for it."""
    if codec in _CHINESE:
        return len(text.encode()) - len(text) < 2 * MANY or everyday_share(text[:SAMPLE]) >= LEAST
    # A server's default is none that somebody chose; Chinese pages come with it.
    return codec == "utf-8" or codec in _EAST_ASIAN or text.isascii()


def _valid_utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_mostly_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8 but for a few; in other encodings hardly any character is UTF-8 by chance."""
    marks = data.decode("utf-8", "replace").count(MARK)
    leads = int(np.count_nonzero(np.frombuffer(data, np.uint8) >= 0xC2))
    return leads >= MANY and leads >= MANY * marks


def _first_beyond_ascii(data: bytes) -> int:
    """Return where the first byte beyond ASCII stands, 0 where there is none."""
    return int((np.frombuffer(data, np.uint8) >= 0x80).argmax()) if data else 0
