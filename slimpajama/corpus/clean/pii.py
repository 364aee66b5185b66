"""Mask personal data by option: e-mail and public IP addresses, Chinese identity cards and telephone numbers, and more.

Half and full width, separators, and what stands glued to a number (letters, underscores, Chinese) are looked through.
What only looks alike stays: identity cards are checked down to their last digit, bank cards by Luhn's sum, addresses
must be routable; a number inside a longer code, a sum of money, a version or the number of a section is none.

A pattern finds where an item may be, and a function judges it by what stands before and behind. Both look a bounded
number of characters far, so hostile text costs linear time.
"""

import datetime as dt
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

VERSION = 3
"""Raised when the same text is masked otherwise."""

# 2**(17 - i) mod 11.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"
# The first two digits of an identity card: GB/T 2260-2007, and 82, 83 and 91 for those who live there by permit.
_PROVINCES = "1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91"

# Of all top-level domains in Chinese (iana.org/domains/root/db) those that are not trade marks: Chinese text goes on
# behind an address without a space, so that only a list says where it ends.
_HAN_DOMAINS = (
    "中文网|我爱你|新加坡|中国|中國|香港|澳门|澳門|台湾|台灣|公司|网络|網絡|网址|网站|网店|在线|集团|商城|商标|商店|政务|政府|公益"
    "|机构|手机|移动|信息|娱乐|游戏|广东|佛山|时尚|世界|健康|企业|餐厅|招聘|购物|慈善|点看|八卦|新闻|书籍|食品|广告|组织机构|通販"
)
# Names of files are no addresses: `icon@2x.png`.
_FILES = (
    "png|jpe?g|gif|svg|webp|ico|css|js|json|txt|html?|xml|ya?ml|toml|exe|dll|jar|conf|service|log|vue|tsx?|swift|header"
)

_DIGIT = "[0-9\uff10-\uff19]"
_DOT = "[.\uff0e]"
_SPACE = "[ \\t\u00a0\u2000-\u200a\u202f\u3000]"
_MARK = "[-./()_\u00b7\u2010-\u2015\u2022\u2212\u30fb\uff08\uff09\uff0d\uff0e\uff0f\uff3f]"
_GAP = f"(?:{_SPACE}?{_MARK}{_SPACE}?|{_SPACE}{{1,2}})"
_HALF_WIDTH = dict(zip(range(0xFF01, 0xFF5F), map(chr, range(0x21, 0x7F)), strict=True))
# Characters that are looked at on both sides; a domain may have 255.
_BEFORE, _BEHIND, _DOMAIN_CHARS = 64, 32, 256


class _Found(NamedTuple):
    """What may be an item of personal data, and the text on both sides of it; full-width signs are half-width."""

    before: str
    text: str
    behind: str

    def digits(self) -> str:
        """Return its digits, and the X of an identity card."""
        return re.sub(r"[^0-9Xx]", "", self.text)

    def groups(self) -> tuple[int, ...]:
        """Return how many of them stand together."""
        return tuple(map(len, re.findall(r"[0-9Xx]+", self.text)))


_Reach = tuple[int, int] | None
"""How many characters before and behind belong to the item, too; None: it is no personal data."""


class Kind(NamedTuple):
    """A kind of personal data."""

    pattern: re.Pattern[str]
    """Where it may be; a group in a lookahead belongs to what is found."""
    judge: Callable[[_Found], _Reach]
    maybe: str
    """Whatever `judge` says yes to has this in it; Arrow's engine passes over the texts that have not."""
    mask: str


def is_identity_card(number: str) -> bool:
    """Return whether 18 characters are a Chinese identity card: a date of birth and the check digit are right.

    Source: GB 11643-1999; the check digit is ISO 7064, MOD 11-2.
    """
    if not re.fullmatch(r"[1-9][0-9]{16}[0-9Xx]", number) or not _is_date(number[6:14]):
        return False
    check = _CHECK[sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False)) % 11]
    return 1800 <= int(number[6:10]) < 2100 and check == number[17].upper()


def _is_date(digits: str) -> bool:
    try:
        dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return True


# Digits or a decimal point go on, or letters that more digits follow: a hash, an order number, base64.
_CODE_BEFORE = re.compile(r"(?:[0-9]\.?|[0-9][A-Za-z]+|[A-Za-z]{17})\Z")
_CODE_BEHIND = re.compile(r"\.?[0-9]|[A-Za-z]+[0-9]|[A-Za-z]{17}")
_NUMBER_BEFORE = re.compile(rf"[0-9]{_GAP}\Z")
_NUMBER_BEHIND = re.compile(rf"{_GAP}(?!1[3-9][0-9]{_GAP}?[0-9]{{4}}{_GAP}?[0-9]{{4}}(?![0-9]))[0-9]")
_AMOUNT_BEFORE = re.compile(r"(?:[$¥€£￥]|rmb|cny|usd)\s?\Z", re.IGNORECASE)
_AMOUNT_BEHIND = re.compile(
    r"\s?(?:元(?!旦)|[万亿][元吨]|[美港欧日]元|吨|字节|公里|平方|立方|千瓦|[毫微纳]?秒|%|(?:bytes?|[kmgt]?i?b|[mnuμ]?s|k[gm])\b)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?:单号|编号|序号|序列号|流水号|货号|批号|条码|文号|合同号|发票号|案号|档号|学号|工号|专利号|标准号|第|isbn|issn|doi|sku|uuid|sha1|md5"
    r"|://\S*|order|invoice|serial|ticket|issue|size|offset|length|timestamp|时间戳|\b10\.[0-9]{4,9}/\S*)[^\w\n]{0,4}\Z",
    re.IGNORECASE,
)
_CALLED = re.compile(
    r"(?:手机|电话|致电|拨打|热线|联系|短信|微信|号码|(?<![a-z])(?:tel|phone|mobile|mob|cell|call|whatsapp|sms))[^0-9\n>]{0,8}\Z",
    re.IGNORECASE,
)
_COUNTRY = re.compile(rf"(?<![0-9.])(?:\(?(?:\+|00)?86\)?{_GAP}?(?:\(?0\)?{_GAP}?)?|0)\(?\Z")
_CARD_WORD = re.compile(r"(?:身份证|证件|公民身份|身份号|\bid\b)[^0-9\n>]{0,8}\Z", re.IGNORECASE)


def _is_number(found: _Found) -> bool:
    """Return whether a number stands for itself and is no sum and no number of something else."""
    if _CODE_BEFORE.search(found.before) or _CODE_BEHIND.match(found.behind):
        return False
    return not (
        _AMOUNT_BEFORE.search(found.before) or _AMOUNT_BEHIND.match(found.behind) or _NUMBERED.search(found.before)
    )


def _in_a_row(found: _Found) -> bool:
    """Return whether numbers go on before or behind, as in a line of a table; not where the next is a mobile, too."""
    return bool(_NUMBER_BEFORE.search(found.before) or _NUMBER_BEHIND.match(found.behind))


def _mobile(found: _Found) -> _Reach:
    country, groups = _COUNTRY.search(found.before), found.groups()
    before = found.before[: country.start()] if country else found.before
    if country or _CALLED.search(before):
        code = _CODE_BEFORE.search(before) or _CODE_BEHIND.match(found.behind)
        return None if code or min(groups) == 1 else (len(found.before) - len(before), 0)
    usual = groups in ((11,), (3, 4, 4), (7, 4)) or (groups == (3, 8) and found.text[3] != ".")
    return (0, 0) if usual and _is_number(found) and (len(groups) == 1 or not _in_a_row(found)) else None


def _card(found: _Found) -> _Reach:
    if _CODE_BEFORE.search(found.before) or _CODE_BEHIND.match(found.behind):
        return None
    number = found.digits()
    if len(number) == 18:
        return (0, 0) if is_identity_card(number) else None
    # 15 digits have no check digit.
    place = re.match(rf"(?:{_PROVINCES})(?:0[1-9]|[1-79][0-9]){{2}}", number)
    if not place or "00" in (number[2:4], number[4:6]) or not _is_date(f"19{number[6:12]}"):
        return None
    if _CARD_WORD.search(found.before):
        return 0, 0
    return (0, 0) if found.groups() in ((15,), (6, 6, 3)) and _is_number(found) and not _in_a_row(found) else None


_VERSION_WORD = re.compile(
    r"(?:版本?号?|(?<![a-z])(?:version|ver|release|rev|section|sec)|[第章节節条條款图圖表§])[^\w\n]{0,3}v?\Z",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"(?:\bip|地址|服务器|主机|域名|解析|网关|连接|访问|路由|[a-z]+://|dns|ping|host|server|addr|address|nameserver|node|peer|from"
    r"|inet|telnet|ssh|curl|@)[^\n0-9>]{0,12}\Z",
    re.IGNORECASE,
)


# Letters but `IP`, the name of a program, or an address that goes on to the left.
_NO_ADDRESS = re.compile(
    r"(?:(?<![a-z])(?!ip(?:v[46])?\Z)[a-z]+|[a-z]/|[0-9]\.?|(?<![0-9a-z])(?!ffff)[0-9a-f]{1,4}:)\Z", re.IGNORECASE
)


def _address(found: _Found) -> _Reach:
    if _NO_ADDRESS.search(found.before):
        return None
    if re.match(r"[A-Za-z0-9]|\.[0-9]|\s?版", found.behind) or _VERSION_WORD.search(found.before):
        return None
    try:
        address = ipaddress.ip_address(found.text)
    except ValueError:
        return None
    # Numbers of sections, and versions without the word.
    doubtful = address.version == 4 and max(address.packed) < 64 and found.text not in ("8.8.8.8", "8.8.4.4")
    if doubtful and not (_NETWORK.search(found.before) or re.match(r":[0-9]|/[0-9]{1,2}\b", found.behind)):
        return None
    return (0, 0) if address.is_global and not address.is_multicast else None


_LOCAL = re.compile(r"[\w\u00c0-\u024f\u0370-\u052f][\u00c0-\u024f\u0370-\u052f\w.%+'-]{0,63}\Z", re.ASCII)
# Nothing says where a name ends that stands glued to a sentence: most names have two to four characters.
_HAN_LOCAL = re.compile(r"[\u4e00-\u9fff]{1,4}\Z")
_LATIN = rf"xn--[a-z0-9-]{{2,59}}|(?!(?:{_FILES})(?![a-z]))[a-z]{{2,24}}(?![0-9a-z])"
_DOMAIN = re.compile(
    rf"(?:[a-z0-9-]{{1,63}}[.。]){{1,8}}(?:{_LATIN})"
    rf"|(?:[\w-]{{1,63}}\.){{1,8}}(?:{_LATIN}|{_HAN_DOMAINS}|[\u0370-\u10ff]{{2,24}}(?!\w))",
    re.IGNORECASE,
)


def _email(found: _Found) -> _Reach:
    domain = _DOMAIN.match(found.behind)
    local = domain and (_LOCAL.search(found.before) or _HAN_LOCAL.search(found.before))
    # The account of a program: `git@github.com:name/project`.
    if not (domain and local) or local[0].lower() == "git":
        return None
    return len(local[0]), len(domain[0])


_LINE_WORD = re.compile(r"(?:电话|座机|固话|传真|热线|(?<![a-z])(?:tel|phone|fax))[^0-9\n>]{0,8}\Z", re.IGNORECASE)
_SUBSCRIBER = rf"[1-9](?:[0-9]{{2,3}}{_GAP}?[0-9]{{4}})"
_LINE = re.compile(
    rf"0(?:10|2[0-9]|[3-9][0-9]{{2}}){_GAP}?{_SUBSCRIBER}|[48]00(?:{_GAP}?[0-9]{{3}}{_GAP}?[0-9]{{4}}|{_GAP}?[0-9]{{4}}{_GAP}?[0-9]{{3}})"
)
_ABROAD = re.compile(r"(?:\+|00)86[- ]?\(?\Z")
_EXTENSION = re.compile(r"\s?(?:转|分机|ext\.?|-)\s?[0-9]{1,6}(?![0-9])", re.IGNORECASE)


def _landline(found: _Found) -> _Reach:
    abroad, extension = _ABROAD.search(found.before), _EXTENSION.match(found.behind)
    behind = extension.end() if extension else 0
    if abroad or _LINE_WORD.search(found.before):
        line = _LINE.fullmatch(f"0{found.text}" if abroad else found.text) or re.fullmatch(_SUBSCRIBER, found.text)
    else:
        alone = found._replace(behind=found.behind[behind:])
        line = _LINE.fullmatch(found.text) if _is_number(alone) and not _in_a_row(alone) else None
    return (len(abroad[0]) if abroad else found.before.endswith("("), behind) if line else None


# Visa, Mastercard, JCB, UnionPay and the older cards of ICBC.
_ISSUERS = re.compile("(?:4[0-9]|5[1-5]|2[2-7]|35)[0-9]{14}|62[0-9]{14,17}|9558[0-9]{15}")


def _bank_card(found: _Found) -> _Reach:
    number = found.digits()
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    luhn = sum(value - 9 * (value > 9) for value in doubled) % 10 == 0
    whole = min(found.groups()[:-1], default=4) >= 4 and _is_number(found)
    return (0, 0) if whole and luhn and _ISSUERS.fullmatch(number) else None


# Behind a number that is masked by now, another one may stand.
_QQ_WORD = re.compile(
    r"(?:(?:qq|扣扣|企鹅|加q|q群|群号)(?:交流|微信|群|账?号|码|\b(?:is|number|no\.?)\b|[是为:#()/\s-])*|<QQ>\s?[/、,和或]\s?)\Z",
    re.IGNORECASE,
)


def _qq(found: _Found) -> _Reach:
    return (0, 0) if _QQ_WORD.search(found.before) and not _CODE_BEHIND.match(found.behind) else None


def _wechat(found: _Found) -> _Reach:
    name = re.search(r"[a-z][-\w]+\Z", found.text, re.ASCII | re.IGNORECASE)
    if not name:
        return None
    # `微信 Android` names nobody.
    told = re.search(r"[号:]|id", found.text[: name.start()], re.IGNORECASE) or not name[0].isalpha()
    return (-name.start(), 0) if told else None


def _number(first: str, more: str) -> re.Pattern[str]:
    """Return a pattern of digits, the first of them and how many more, in any groups; what it finds may overlap."""
    return re.compile(f"{first}(?=((?:{_GAP}?{_DIGIT}){more})(?!{_DIGIT}))")


_CARD_DIGITS = rf"(?:{_GAP}?{_DIGIT}){{16}}{_GAP}?[0-9Xx\uff10-\uff19\uff38\uff58]|(?:{_GAP}?{_DIGIT}){{14}}"
_HEX = "[0-9a-fA-F]"
_V4 = rf"{_DIGIT}{{1,3}}(?:{_DOT}{_DIGIT}{{1,3}}){{3}}"
_WECHAT = (
    r"(?:微信|薇信|v信|(?<![0-9a-z])(?:(?:wechat|weixin|vx)(?![0-9a-z_])|wx(?=\s?(?:[:：]|号|id))))"
    r"(?:\s?(?:号|id|账号|帐号))?(?:\sis\b|[是为:：(（\s]){0,3}"
)
_LONG = f"{_DIGIT}(?:{_GAP}?{_DIGIT}){{10}}"

KINDS = {
    "email": Kind(re.compile("(?<=[^\\W])[@\uff20](?=\\w)"), _email, "[@\uff20]", "<EMAIL>"),
    "id": Kind(re.compile(rf"[1-9\uff11-\uff19](?=({_CARD_DIGITS})(?!{_DIGIT}))"), _card, _LONG, "<ID>"),
    "phone": Kind(_number("[1\uff11](?=[3-9\uff13-\uff19])", "{10}"), _mobile, _LONG, "<PHONE>"),
    "ip": Kind(
        re.compile(rf"{_V4}|[23]{_HEX}{{3}}(?::{_HEX}{{0,4}}){{1,6}}:{_HEX}{{1,4}}(?![\w:])"),
        _address,
        rf"{_DIGIT}{_DOT}{_DIGIT}{{1,3}}{_DOT}{_DIGIT}{{1,3}}{_DOT}{_DIGIT}|{_HEX}:[0-9a-fA-F:]*:{_HEX}",
        "<IP>",
    ),
    "bank_card": Kind(_number("[2-69\uff12-\uff16\uff19]", "{15,18}"), _bank_card, _LONG, "<BANK_CARD>"),
    "landline": Kind(_number(_DIGIT, "{6,11}"), _landline, f"{_DIGIT}(?:{_GAP}?{_DIGIT}){{6}}", "<PHONE>"),
    "qq": Kind(_number("[1-9\uff11-\uff19]", "{4,10}"), _qq, "(?i:qq|扣扣|企鹅|加q|q群|群号)", "<QQ>"),
    "wechat": Kind(
        re.compile(rf"(?:{_WECHAT}(?=([a-z][-\w]{{5,19}})(?![-\w]))|wxid_[0-9a-z]{{6,}})", re.ASCII | re.IGNORECASE),
        _wechat,
        "(?i:微信|薇信|wechat|weixin|vx|wx|v信)",
        "<WECHAT>",
    ),
}
"""By name, in the order in which they are looked for."""
DEFAULT = ("email", "id", "phone", "ip")
"""What `clean.mask_pii` masks; the other kinds are masked by `clean.mask_also`."""


def _mask_kind(text: str, kind: Kind) -> tuple[str, int]:
    """Return a text with what is of this kind masked, and how many items that were."""
    pieces: list[str] = []
    done, room = 0, _DOMAIN_CHARS if kind.judge is _email else _BEHIND
    for match in kind.pattern.finditer(text):
        begin, end = match.start(), max(match.end(), match.end(match.lastindex or 0))
        if begin < done:
            continue
        before, behind = text[max(done, begin - _BEFORE) : begin], text[end : end + room]
        reach = kind.judge(_Found(*(part.translate(_HALF_WIDTH) for part in (before, text[begin:end], behind))))
        if reach:
            pieces += [text[done : begin - reach[0]], kind.mask]
            done = end + reach[1]
            # A stroke over the last character would go over the mask's, and make a sign of its own with it.
            while text.startswith("\u0338", done):
                done += 1
    return "".join([*pieces, text[done:]]) if pieces else text, len(pieces) // 2


def mask(text: str, kinds: Sequence[str] = DEFAULT) -> tuple[str, Counter[str]]:
    """Return `text` with a mask, such as `<EMAIL>`, in place of personal data, and how many items of each kind."""
    counts = Counter[str]()
    before = ""
    # What stood glued to an item stands free once that is masked.
    while text != before:
        before = text
        for name in kinds:
            text, found = _mask_kind(text, KINDS[name])
            counts[name] += found
    return text, +counts


@cache
def _maybe(kinds: tuple[str, ...]) -> str:
    return "|".join(dict.fromkeys(KINDS[name].maybe for name in kinds))


def mask_block(
    texts: pa.LargeStringArray, kinds: tuple[str, ...] = DEFAULT
) -> tuple[pa.LargeStringArray, Counter[str]]:
    """Return what `mask` makes of each text, and the sum of its counts."""
    maybe = pc.match_substring_regex(texts, _maybe(kinds))
    done = [mask(text, kinds) for text in texts.filter(maybe).to_pylist()]
    replaced = pa.array([text for text, _ in done], pa.large_string())
    return pc.replace_with_mask(texts, maybe, replaced), sum((found for _, found in done), Counter[str]())
