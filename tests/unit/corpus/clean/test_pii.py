import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.clean.pii import is_identity_card, mask, mask_block

# The example of GB 11643-1999.
CARD = "11010519491231002X"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("请联系 zhang.san+hr@mail.example.com.cn，谢谢", "请联系 <EMAIL>，谢谢"),
        ("邮箱zhang@example.com。", "邮箱<EMAIL>。"),
        ("Mail <jane_doe@example.org>.", "Mail <<EMAIL>>."),
        ("服务器8.8.8.8已停机", "服务器<IP>已停机"),
        ("from 2606:4700:4700:0:0:0:0:1111 today", "from <IP> today"),
        (f"身份证号{CARD}。", "身份证号<ID>。"),
        (f"ID {CARD.lower()}", "ID <ID>"),
        ("手机13812345678，或 +86 139-1234-5678", "手机<PHONE>，或 <PHONE>"),
        ("Call 0086 13812345678 now", "Call <PHONE> now"),
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
        "订单号110105194912310021",  # wrong check digit
        "圆周率3.14159265358979",
        "12345678901",  # no mobile prefix
        "x13812345678",
        "138123456789",  # a digit too many
        "at 12:30:45:12 o'clock",
        "std::vector::size::type",
        "@media (min-width: 1em) and user@localhost",
    ],
)
def test_what_only_looks_alike_stays(text: str):
    assert mask(text)[0] == text


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


PII = st.sampled_from(["a@b.cn", CARD, "8.8.8.8", "13812345678", "1:2:3:4:5:6:7:8", "@", ".", "-", "中", "a", " ", "1"])


@given(st.lists(PII, max_size=8).map("".join))
def test_a_block_is_masked_like_its_texts_and_a_second_time_nothing_is_left(text: str):
    once, counts = mask(text)
    block, sums = mask_block(pa.array([text, "无", ""], pa.large_string()))
    assert block.to_pylist() == [once, "无", ""]
    assert sums == counts
    assert mask(once)[0] == once
