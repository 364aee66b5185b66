import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.clean.pii import DEFAULT, KINDS, is_identity_card, mask, mask_block

# The example of GB 11643-1999.
CARD = "11010519491231002X"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("请联系 zhang.san+hr@mail.example.com.cn，谢谢", "请联系 <EMAIL>，谢谢"),
        ("邮箱zhang@example.com。", "邮箱<EMAIL>。"),
        ("Mail <jane_doe@example.org>.", "Mail <<EMAIL>>."),
        ("Email：li@example.com手机，or o'brien@example.ie", "Email：<EMAIL>手机，or <EMAIL>"),
        ("邮箱 ｌｉ＠ｅｘａｍｐｌｅ．ｃｏｍ 或 li＠example。com", "邮箱 <EMAIL> 或 <EMAIL>"),
        ("li@例子.中国的邮箱，a@mail.例子.公司 b@例子.com", "<EMAIL>的邮箱，<EMAIL> <EMAIL>"),
        ("用户@例子.广告。", "<EMAIL>。"),
        ("jo@xn--bcher-kva.de, user@xn--fsqu00a.xn--0zwm56d", "<EMAIL>, <EMAIL>"),
        ("josé@münchen.de, почта info@пример.рф", "<EMAIL>, почта <EMAIL>"),
        ("a@example.com13812345678，13912345678@163.com", "<EMAIL><PHONE>，<EMAIL>"),
        ("服务器8.8.8.8已停机", "服务器<IP>已停机"),
        ("from 2606:4700:4700:0:0:0:0:1111 today", "from <IP> today"),
        ("DNS 2400:3200::1 and [2001:4860:4860::8888]:53", "DNS <IP> and [<IP>]:53"),
        ("http://8.8.8.8/a 8.8.8.8:53 IP１.2.4.8 223．5．5．5", "http://<IP>/a <IP>:53 IP<IP> <IP>"),
        (f"身份证号{CARD}。", "身份证号<ID>。"),
        (f"ID {CARD.lower()}", "ID <ID>"),
        (f"张{CARD}李，id_{CARD}_x", "张<ID>李，id_<ID>_x"),
        ("110105 19491231 002X，110105-1949-1231-002X", "<ID>，<ID>"),
        ("身份证１１０１０５　１９４９１２３１　００２Ｘ", "身份证<ID>"),
        ("老身份证110105491231002，id_110105491231002", "老身份证<ID>，id_<ID>"),
        ("证件号110105 491231 002", "证件号<ID>"),
        ("手机13812345678，或 +86 139-1234-5678", "手机<PHONE>，或 <PHONE>"),
        ("Call 0086 13812345678 now", "Call <PHONE> now"),
        ("联系人13812345678_张 tel13812345678 x13812345678y", "联系人<PHONE>_张 tel<PHONE> x<PHONE>y"),
        ("手机:13812345678元，13812345678元旦快乐", "手机:<PHONE>元，<PHONE>元旦快乐"),
        ("１３８１２３４５６７８，１３８－１２３４－５６７８", "<PHONE>，<PHONE>"),
        ("138.1234.5678 138—1234—5678 138_1234_5678", "<PHONE> <PHONE> <PHONE>"),
        ("1381234 5678、138-12345678；138 1234 5678 139 1234 5678", "<PHONE>、<PHONE>；<PHONE> <PHONE>"),
        ("+86(138)12345678 （＋86）138 1234 5678", "<PHONE> <PHONE>"),
        ("86-13812345678 8613812345678 tel:+8613812345678", "<PHONE> <PHONE> tel:<PHONE>"),
        ("13812345678/13912345678,13712345678转801", "<PHONE>/<PHONE>,<PHONE>转801"),
        ("手机 1381 2345 678, mobile: 13812-345678", "手机 <PHONE>, mobile: <PHONE>"),
        # `>` and a stroke are `≯` in NFC.
        ("写信 a@example.com\u0338，ping 8.8.8.8\u0338", "写信 <EMAIL>，ping <IP>"),
    ],
)
def test_personal_data_is_masked_beside_chinese_and_english(text: str, masked: str):
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 与 192.168.1.1 是本机和内网",
        "version 1.2.3.4.5 of 2024.1.2.3",
        "256.1.1.1",
        "v8.8.8.8，版本8.8.8.8，Chrome/91.0.44.124",
        "3.1.2.1 概述，见第3.1.2.4节 and section 9.2.1.4",
        "2001:db8::1 fe80::1 ff02::fb 224.0.0.251",
        "fd00:2001:4860::8888 and abcd:2400:3200::1",
        "订单号110105194912310021",  # wrong check digit
        "圆周率3.14159265358979，138.12345678 and 0.13812345678",
        "12345678901",  # no mobile prefix
        "138123456789",  # a digit too many
        "at 12:30:45:12 o'clock, 1609459200000 ms, 20240101120000",
        "std::vector::size::type",
        "@media (min-width: 1em) and user@localhost, react@latest",
        "icon@2x.png getty@tty1.service zhang[at]example.com",
        "0x13812345678 a3f13812345678bc9 550e8400-e29b-41d4-a716-446655440000",
        "订单号：13812345678，order 13812345678，ISBN 978-7-111-12345-6",
        "doi:10.1145/13812345678 https://example.com/news/13812345678.html",
        "合计13812345678元，￥13812345678，17179869184 bytes，13812345678字节",
        "1500 2000 3000 4000\n138 1234 5678 9012\n1990 1991 199",
        "1 3 8 1 2 3 4 5 6 7 8，一三八一二三四五六七八",
        "第13812345678号文件，学号13812345678，8.8.8.8版本，git@github.com:user/repo",
        "护照E12345678，车牌京A12345，91110105MA01ABCD1X",
        "110105491331002 and 990105491231002",  # month 13, no such province
        "银行卡6222021234567890128，010-62345678，400-800-1234，QQ：12345678，微信号：zhangsan88",
    ],
)
def test_what_only_looks_alike_stays(text: str):
    assert mask(text)[0] == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("电话：010-62345678转801，座机(021)5555-6666", "电话：<PHONE>，座机<PHONE>"),
        ("+86 10 6234 5678 or 0755 8234 5678 or ０１０－６２３４５６７８", "<PHONE> or <PHONE> or <PHONE>"),
        ("400-800-1234，4008001234，传真 6234-5678", "<PHONE>，<PHONE>，传真 <PHONE>"),
        ("银行卡6222021234567890128，4111 1111 1111 1111", "银行卡<BANK_CARD>，<BANK_CARD>"),
        ("QQ：12345678901，QQ群 987654321，ＱＱ１２３４５６７", "QQ：<QQ>，QQ群 <QQ>，ＱＱ<QQ>"),
        (
            "微信号：wxid_abc123def456，微信zhangsan88, WeChat ID: li_si",
            "微信号：<WECHAT>，微信<WECHAT>, WeChat ID: li_si",
        ),
        ("微信：lisi_88", "微信：<WECHAT>"),
        ("QQ：12345678、87654321，QQ/微信：23456789", "QQ：<QQ>、<QQ>，QQ/微信：<QQ>"),
        ("my QQ is 12345678, QQ number: 87654321", "my QQ is <QQ>, QQ number: <QQ>"),
        (
            "微信（zhangsan88），wx: abc123456, my wechat is li_si_88",
            "微信（<WECHAT>），wx: <WECHAT>, my wechat is <WECHAT>",
        ),
        ("import wx\nfrom wx2023 import b，QQ音乐10000首", "import wx\nfrom wx2023 import b，QQ音乐10000首"),
        # Wrong check digits, a version, a name of a system, sums.
        ("银行卡6222021234567890123 and 4111111111111112", "银行卡6222021234567890123 and 4111111111111112"),
        ("QQ 2013 版，微信 Android 版本", "QQ 2013 版，微信 Android 版本"),
        ("0.0123456789 and 2010-2011 3000, 1/0351234567", "0.0123456789 and 2010-2011 3000, 1/0351234567"),
    ],
)
def test_further_kinds_are_masked_where_they_are_asked_for(text: str, masked: str):
    assert mask(text, tuple(KINDS))[0] == masked


def test_an_identity_card_needs_a_date_and_the_right_check_digit():
    assert is_identity_card(CARD)
    assert [is_identity_card(CARD[:-1] + check) for check in "0123456789"] == [False] * 10
    assert not is_identity_card("110105194913310021"[:17] + "X")  # month 13
    assert not is_identity_card("1" * 18)


@given(st.integers(1, 9), st.integers(0, 99999), st.dates(), st.integers(0, 999))
def test_exactly_one_check_digit_is_right(first: int, place: int, born: object, serial: int):
    number = f"{first}{place:05d}{born:%Y%m%d}{serial:03d}" if str(born) >= "1800" else "11010519491231002"
    right = [check for check in "0123456789X" if is_identity_card(number + check)]
    assert len(right) == (number[6:10] < "2100")
    # Two neighbours swapped are noticed.
    for check in right:
        swapped = number[:15] + number[16] + number[15] + check
        assert swapped == number + check or not is_identity_card(swapped)


PIECES = (
    *("a@b.cn", CARD, "110105491231002", "8.8.8.8", "13812345678", "138 1234 5678", "1:2:3:4:5:6:7:8", "2400:3200::1"),
    *(
        "010-62345678",
        "4111111111111111",
        "QQ",
        "微信号",
        "电话",
        "+86",
        "@例子.中国",
        "１",
        "＠",
        "@",
        ".",
        "-",
        "中",
        "a",
        " ",
    ),
    *("1", "\n", "\u0338"),
)


@pytest.mark.parametrize("kinds", [DEFAULT, tuple(KINDS)])
@given(text=st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_a_block_is_masked_like_its_texts_and_a_second_time_nothing_is_left(kinds: tuple[str, ...], text: str):
    once, counts = mask(text, kinds)
    block, sums = mask_block(pa.array([text, "无", ""], pa.large_string()), kinds)
    assert block.to_pylist() == [once, "无", ""]
    assert sums == counts
    assert mask(once, kinds)[0] == once
