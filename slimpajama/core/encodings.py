"""The encodings of the web, by their names there: what a source may set and what a page may declare."""

import codecs

# As browsers read them: by what contains them.
_WIDER = {
    **dict.fromkeys(("gb2312", "gb_2312-80", "gbk", "x-gbk", "gb18030-2022"), "gb18030"),
    **dict.fromkeys(("big5", "big5-tw", "cn-big5", "x-x-big5"), "cp950"),
    **dict.fromkeys(("ascii", "us-ascii", "iso-8859-1", "latin1"), "cp1252"),
    "euc-kr": "cp949",
    **dict.fromkeys(("shift_jis", "x-sjis"), "cp932"),
}
UTF16 = ("utf-16", "utf-16-le", "utf-16-be")
# Those of WHATWG Encoding, by Python's names. Some others of Python's take hours over a hostile page.
_CODECS = frozenset(
    "big5hkscs cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874 cp932 cp949 cp950 euc_jp "
    "euc_kr gb18030 iso2022_jp iso8859-10 iso8859-11 iso8859-13 iso8859-14 iso8859-15 iso8859-16 iso8859-2 iso8859-3 "
    "iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 koi8-r koi8-u mac-cyrillic mac-roman tis-620 "
    "utf-8".split()
).union(UTF16)


def codec_of(name: str) -> str:
    """Return Python's name of the encoding that a name on the web stands for; GB2312 and GBK are read as GB18030.

    Raises:
        LookupError: No encoding of the web.
    """
    name = name.strip().lower()
    found = codecs.lookup(_WIDER.get(name, name)).name
    found = _WIDER.get(found, found)
    if found == "iso8859-1":
        return "cp1252"
    if found not in _CODECS:
        raise LookupError(name)
    return found
