"""Names: the specification's own vectors, and the tree against its definition."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.xet import hashes

LEFT = "c28f58387a60d4aa200c311cda7c7f77f686614864f5869eadebf765d0a14a69"
RIGHT = "6e4e3263e073ce2c0e78cc770c361e2778db3b054b98ab65e277fc084fa70f22"


def test_a_hash_is_written_as_four_little_endian_words():
    written = "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert hashes.text_of(bytes(range(32))) == written
    assert hashes.parse_hash(written) == bytes(range(32))


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" + "0" * 63, "A" + "0" * 63, "０" * 64, "0" * 64 + "\n"])
def test_what_is_not_a_hash_is_refused(text, said):
    with pytest.raises(Refused) as caught:
        hashes.parse_hash(text)
    assert said(caught) == "hub.xet-hash-malformed"


def test_a_chunk_has_the_hash_of_the_specification():
    name = hashes.chunk_hash(b"Hello World!")
    assert name.hex() == "a29cfb08e608d4d8726dd8659a90b9134b3240d5d8e42d5fcb28e2a6e763a3e8"


def test_a_node_has_the_hash_of_the_specification():
    name, length = hashes.node_of([(hashes.parse_hash(LEFT), 100), (hashes.parse_hash(RIGHT), 200)])
    assert hashes.text_of(name) == "be64c7003ccd3cf4357364750e04c9592b3c36705dee76a71590c011766b6c14"
    assert length == 300


def test_a_range_has_the_hash_of_the_specification():
    name = hashes.range_hash(hashes.parse_hash(LEFT) + hashes.parse_hash(RIGHT))
    assert hashes.text_of(name) == "eb06a8ad81d588ac05d1d9a079232d9c1e7d0b07232fa58091caa7bf333a2768"


def by_definition(nodes):
    """The root as the specification says it: whole levels, one after another."""
    while len(nodes) > 1:
        cuts = [0]
        while cuts[-1] < len(nodes):
            rest = nodes[cuts[-1] :]
            ends = [at + 1 for at in range(2, min(9, len(rest))) if int.from_bytes(rest[at][0][24:], "little") % 4 == 0]
            cuts.append(cuts[-1] + (ends[0] if ends else min(9, len(rest))))
        nodes = [hashes.node_of(nodes[start:end]) for start, end in pairwise(cuts)]
    return nodes[0][0]


@pytest.mark.heavy
def test_the_tree_grown_from_left_to_right_is_the_one_of_the_definition():
    nodes = [(hashes.chunk_hash(str(index).encode()), index + 1) for index in range(400)]
    for count in range(1, len(nodes) + 1):
        tree = hashes.Tree()
        for node in nodes[:count]:
            tree.add(node)
        assert tree.root() == by_definition(nodes[:count]), count


def test_lists_that_differ_in_a_length_or_in_their_order_have_other_roots():
    nodes = [(hashes.chunk_hash(bytes([index])), 10) for index in range(5)]
    lists = [nodes, nodes[::-1], [(nodes[0][0], 11), *nodes[1:]], nodes[:4]]
    roots = set()
    for each in lists:
        tree = hashes.Tree()
        for node in each:
            tree.add(node)
        roots |= {tree.root(), tree.file_hash()}
    assert len(roots) == 2 * len(lists)
