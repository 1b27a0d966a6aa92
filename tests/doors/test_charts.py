"""Every picture is valid, safe and legible: whatever the names, no two texts overlap and none leaves its drawing."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TypedDict
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from gongqi.doors.web import charts
from gongqi.doors.web.charts.drawing import BOLD, measure, wrap

SVG = "{http://www.w3.org/2000/svg}"
START = datetime(2026, 3, 4, 9, 12, tzinfo=UTC)


class Words(TypedDict):
    title: str
    description: str


WORDS: Words = {"title": "A title", "description": "What it shows"}


def chain(name: str) -> Markup:
    count = charts.Count(name, "48,210", "/x", "serving.calls")
    layer = charts.Layer(name, name, (count, charts.Count(name, "1,234,567,890.12"), count))
    return charts.chain_picture([layer] * 3, [name, name], [count, charts.Count(name, "12,345,678.90")], **WORDS)


def lineage(name: str) -> Markup:
    nodes = [charts.Node(key, name, name, "/x") for key in "abcde"]
    edges = [charts.Edge(source, target, name) for source, target in ("ab", "ac", "bc", "ad", "cd", "ed")]
    return charts.lineage_graph(nodes, edges, **WORDS)


def deep_lineage(name: str) -> Markup:
    nodes = [charts.Node(str(number), name, name) for number in range(9)]
    edges = [charts.Edge(str(number), str(number + 1), "10 %") for number in range(8)]
    return charts.lineage_graph(nodes, [*edges, charts.Edge("0", "8", "5 %")], **WORDS)


def merkle(name: str) -> Markup:
    size, index = 1_000_000, 765_432
    hashes = [hashlib.sha256(bytes([number])).hexdigest() for number in range(len(charts.merkle_siblings(index, size)))]
    return charts.merkle_path(index, size, hashes, leaf=name, root=name, **WORDS)


def balance(name: str) -> Markup:
    points = [(START + timedelta(days=number), 10_000_000 * (number % 5 - 1)) for number in range(30)]
    return charts.balance_over_time(points, name, **WORDS)


def waterfall(name: str) -> Markup:
    return charts.waterfall((name, 1000), [(name, 700), (name, 300), (name, 0)], name, **WORDS)


def calibration(name: str) -> Markup:
    bins = [charts.CalibrationBin(n / 20, n / 20, n / 25, min(1, n / 18), 10 ** (n % 6)) for n in range(21)]
    return charts.calibration_plot(bins, predicted=name, observed=name, **WORDS)


def subgroups(name: str) -> Markup:
    groups = [charts.Group(name, value, value - 0.05, value + 0.01, 57) for value in (0.98, 0.96, 0.97)]
    return charts.subgroup_bars(groups, gap=name, **WORDS)


def gates(name: str) -> Markup:
    return charts.gate_row([charts.GateSeal(name, state, name, name, "/x") for state in STATES], **WORDS)


def many_gates(name: str) -> Markup:
    return charts.gate_row([charts.GateSeal(name, "proven", "Passed", name)] * 9, **WORDS)


STATES = ("proven", "claimed", "broken")
PICTURES = (
    chain, lineage, deep_lineage, merkle, balance, waterfall, calibration, subgroups, gates, many_gates,
)  # fmt: skip
NAMES = {
    "short": "模型 2",
    "han": "国立大学附属第一人民医院暨乳腺疾病临床医学研究中心数据管理委员会，" * 4,
    "latin": "The Data Stewardship Committee of the University Hospital Centre for Clinical Research " * 4,
    "unbroken": "WWWWmmmm" * 40,
    "mixed": "breast-diagnosis-乳腺癌-v2（release 2）, 2026-03-04",
}
each_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.__name__)
each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())


def drawings(markup: Markup) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<div>{markup}</div>"))


def text_boxes(svg: ElementTree.Element) -> list[tuple[str, float, float, float, float]]:
    """(text, left, top, right, bottom) of every line, measured as widely as any of our typefaces will draw it."""
    boxes = []
    for element in svg.iter(f"{SVG}text"):
        line = (element.text or "") + "".join(child.tail or "" for child in element)
        size, x, y = (float(element.attrib[key]) for key in ("font-size", "x", "y"))
        wide = measure(line, size) * (BOLD if "bold" in element.attrib["class"] else 1)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[element.get("text-anchor", "start")]
        boxes.append((line, left, y - 0.88 * size, left + wide, y + 0.22 * size))
    return boxes


def assert_legible(markup: Markup) -> None:
    for svg in drawings(markup):
        _, _, width, height = (float(part) for part in svg.attrib["viewBox"].split())
        boxes = text_boxes(svg)
        for line, left, top, right, bottom in boxes:
            inside = left >= -1 and top >= -1 and right <= width + 1 and bottom <= height + 1
            assert inside, f"{line!r} leaves {svg.attrib['class']}: {left, top, right, bottom} of {width, height}"
        for (a, *one), (b, *two) in combinations(boxes, 2):
            across = min(one[2], two[2]) - max(one[0], two[0])
            down = min(one[3], two[3]) - max(one[1], two[1])
            assert across <= 1 or down <= 1, f"{a!r} and {b!r} overlap in {svg.attrib['class']} by {across, down}"


@each_picture
def test_a_picture_is_valid_xml_drawn_for_both_widths_with_a_title_and_a_description(
    picture: Callable[[str], Markup],
) -> None:
    both = drawings(picture("模型 & model <2>"))
    assert [svg.attrib["class"] for svg in both] == ["wide", "narrow"]
    for svg in both:
        assert svg.findtext(f"{SVG}title") == "A title"
        assert svg.findtext(f"{SVG}desc") == "What it shows"


@each_picture
def test_a_picture_with_links_is_a_group_because_role_img_would_hide_them(picture: Callable[[str], Markup]) -> None:
    for svg in drawings(picture("x")):
        has_links = svg.find(f".//{SVG}a") is not None
        assert svg.attrib["role"] == ("group" if has_links else "img")


@each_picture
@each_name
def test_no_two_texts_overlap_and_none_leaves_its_drawing(picture: Callable[[str], Markup], name: str) -> None:
    assert_legible(picture(name))


@each_picture
def test_markup_in_a_name_is_shown_and_not_obeyed(picture: Callable[[str], Markup]) -> None:
    evil = "<script>alert(1)</script>\"'&"
    for svg in drawings(picture(evil)):
        assert svg.find(f".//{SVG}script") is None
        assert not [key for element in svg.iter() for key in element.attrib if key.startswith("on")]
    assert "<script" not in picture(evil)


@each_picture
def test_colour_comes_only_from_classes_and_nothing_is_inline(picture: Callable[[str], Markup]) -> None:
    written = {key for svg in drawings(picture("x")) for element in svg.iter() for key in element.attrib}
    assert not written & {"style", "fill", "stroke", "color", "id"}


def test_a_shortened_name_is_whole_in_its_tooltip() -> None:
    name = NAMES["latin"].strip()
    wide = drawings(waterfall(name))[0]
    assert name in [title.text for title in wide.iter(f"{SVG}title")]


def test_live_numbers_carry_their_key_and_their_link() -> None:
    for svg in drawings(chain("calls")):
        assert "serving.calls" in [element.get("data-live") for element in svg.iter(f"{SVG}text")]
        assert {link.get("href") for link in svg.iter(f"{SVG}a")} == {"/x"}


def test_each_gate_shows_its_own_seal() -> None:
    for svg in drawings(gates("licence")):
        assert [use.get("href") for use in svg.iter(f"{SVG}use")] == [f"#seal-{state}" for state in STATES]


# ---- what a picture refuses ----------------------------------------------------------------------


def test_a_waterfall_whose_parts_do_not_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 999"):
        charts.waterfall(("Fee", 1000), [("a", 700), ("b", 299)], "CNY", **WORDS)


def test_a_balance_and_subgroups_without_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        charts.balance_over_time([], "CNY", **WORDS)
    with pytest.raises(ValueError, match="at least one group"):
        charts.subgroup_bars([], gap="", **WORDS)


def test_a_chain_with_too_many_numbers_on_its_loop_is_refused() -> None:
    layer = charts.Layer("a", "b", ())
    with pytest.raises(ValueError, match="counts on the loop"):
        charts.chain_picture([layer, layer], ["x"], [charts.Count("a", "1")] * 5, **WORDS)


@pytest.mark.parametrize(
    ("keys", "edges", "why"),
    [
        ("ab", ["ab", "ba"], "cycle"),
        ("a", ["aa"], "cycle"),
        ("a", ["ab"], "leaves the graph"),
        ("aa", [], "keys of their own"),
        ("", [], "1 to 200"),
    ],
)
def test_a_lineage_that_is_not_an_acyclic_graph_is_refused(keys: str, edges: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        nodes = [charts.Node(key, key, "model") for key in keys]
        charts.lineage_graph(nodes, [charts.Edge(pair[0], pair[1]) for pair in edges], **WORDS)


def test_a_merkle_path_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has a path of 2 hashes, not 1"):
        charts.merkle_path(0, 4, ["00"], leaf="", root="", **WORDS)
    with pytest.raises(ValueError, match="not in a tree"):
        charts.merkle_siblings(4, 4)


# ---- laws ----------------------------------------------------------------------------------------


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, as it is written there."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_drawn_siblings_hash_to_the_root(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 130))
    index = data.draw(st.integers(0, size - 1))
    leaves = [str(number).encode() for number in range(size)]
    node, covered = tree_hash(leaves[index : index + 1]), {index}
    for side, first, last in charts.merkle_siblings(index, size):
        sibling = tree_hash(leaves[first:last])
        node = hashlib.sha256(b"\1" + (sibling + node if side == "left" else node + sibling)).digest()
        assert covered.isdisjoint(range(first, last))
        covered |= set(range(first, last))
    assert node == tree_hash(leaves)
    assert covered == set(range(size))


label_text = st.text(st.sampled_from("abc WM-i，。（公器数据）.é…"), max_size=60)


@given(label_text, st.integers(40, 300), st.sampled_from([13, 16, 25]))
@settings(deadline=None)
def test_wrapping_keeps_every_letter_and_no_line_is_too_wide(text: str, width: int, size: int) -> None:
    lines = wrap(text, width, size, lines=1000)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert all(measure(line, size) <= width or len(line) == 1 for line in lines)


@given(label_text, st.integers(40, 300), st.integers(1, 4))
@settings(deadline=None)
def test_wrapping_to_a_number_of_lines_never_gives_more_nor_wider(text: str, width: int, most: int) -> None:
    lines = wrap(text, width, lines=most)
    assert len(lines) <= most
    assert all(measure(line, 13) <= width for line in lines)


def test_a_line_of_han_never_begins_with_closing_punctuation() -> None:
    for width in range(60, 400, 7):
        for line in wrap("捐赠、专利承诺（分期开放），审查；部署。", width, lines=100):
            assert unicodedata.category(line[0]) not in ("Pe", "Po")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_lineage_is_legible_and_runs_one_way(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 9))
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=14)) if pairs else []
    nodes = [charts.Node(str(number), f"node {number}", "model") for number in range(size)]
    edges = [charts.Edge(str(a), str(b), f"{a}0 %") for a, b in chosen]
    markup = charts.lineage_graph(nodes, edges, **WORDS)
    assert_legible(markup)
    for svg in drawings(markup):
        place = {line: (left, top) for line, left, top, _, _ in text_boxes(svg) if line.startswith("node")}
        for a, b in chosen:
            assert place[f"node {a}"] < place[f"node {b}"] or place[f"node {a}"][1] < place[f"node {b}"][1]


amounts = st.integers(-(2**53) + 1, 2**53 - 1)


@given(st.lists(st.tuples(st.integers(0, 10**8), amounts), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_balance_stays_inside_its_drawing(points: list[tuple[int, int]]) -> None:
    ordered = sorted(points)
    markup = charts.balance_over_time([(START + timedelta(seconds=s), amount) for s, amount in ordered], "CNY", **WORDS)
    assert_legible(markup)
    for svg in drawings(markup):
        height = float(svg.attrib["height"])
        for path in svg.iter(f"{SVG}path"):
            ys = [float(y) for y in re.findall(r"[ML][-\d.]+ ([-\d.]+)", path.attrib["d"])]
            assert all(0 <= y <= height for y in ys)
