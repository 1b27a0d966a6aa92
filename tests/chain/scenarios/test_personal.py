"""What says who somebody is by its form is found whatever stands around it, and what only looks like it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.chain.scenarios.personal import MAX_DEPTH, personal_in, texts_in


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to Li.Lei+x@mail.example.org, please", "email"),
        ("身份证11010519491231002X。", "resident-id"),
        ("我的电话是13912345678，请回电", "mobile"),
        ("139-1234-5678", "mobile"),
        ("call +44 20 7946 0958", "telephone"),
        ("4111 1111 1111 1111", "card"),
        ("IBAN GB82 WEST 1234 5698 7654 32", "iban"),
    ],
)
def test_a_form_is_found(text: str, kind: str) -> None:
    assert kind in personal_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "晴。", "11010519491231002Y", "110105194912310021", "订单 23912345678", "4111 1111 1111 1112",
        "0000 0000 0000 0000", "GB82 WEST 1234 5698 7654 33", "a@b", "2026-11-30 07:00:00", "1.5e-3", "x = y @ z",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert personal_in(text) == []


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_stands_around_an_address_it_is_found_and_nothing_raises(before: str, after: str) -> None:
    assert "email" in personal_in(f"{before} li@example.org {after}")
    personal_in(before + after)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_every_text_and_number_of_a_value_is_looked_at(value: object) -> None:
    found = list(texts_in(value))

    def leaves(each: object) -> int:
        if isinstance(each, dict):
            return sum(1 + leaves(inner) for inner in each.values())
        if isinstance(each, list):
            return sum(map(leaves, each))
        return int(isinstance(each, str) or (isinstance(each, int) and not isinstance(each, bool)))

    assert len(found) == leaves(value)


def test_what_is_deeper_than_is_looked_at_is_not_taken() -> None:
    value: object = "x"
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        list(texts_in(value))
