"""Known answers for the Merkle tree, and proofs that must not pass."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gongqi.books.evidence.rules import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    perfect_root,
    verify_consistency,
    verify_inclusion,
)
from gongqi.kernel.errors import Refused

# The certificate-transparency reference tree: google/certificate-transparency merkletree/merkle_tree_test.cc,
# transparency-dev/merkle proof/verify_test.go.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size): proof
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
CONSISTENCY = {  # (old size, new size): proof
    (1, 1): (),
    (1, 8): INCLUSION[0, 8],
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
    (6, 7): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
SOME_HASH = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


def unhex(proof: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, proof))


def root(size: int) -> bytes:
    return bytes.fromhex(ROOTS[size - 1])


def reader(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    """The plainest hash reader: hash the leaves under the subtree."""
    return lambda level, index: perfect_root(b"".join(map(leaf_hash, leaves[index << level : (index + 1) << level])))


READ = reader(LEAVES)


def test_the_empty_tree_has_the_root_of_nothing() -> None:
    assert Frontier().root == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert Frontier().append(map(leaf_hash, LEAVES[:size])).root == root(size)
    assert Frontier.of(size, READ).root == root(size)


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_certificate_transparency(index: int, size: int) -> None:
    proof = inclusion_proof(index, size, READ)
    assert proof == unhex(INCLUSION[index, size])
    verify_inclusion(index=index, size=size, leaf=leaf_hash(LEAVES[index]), root=root(size), proof=proof)


@pytest.mark.parametrize(("old_size", "new_size"), CONSISTENCY)
def test_consistency_proofs_are_those_of_certificate_transparency(old_size: int, new_size: int) -> None:
    proof = consistency_proof(old_size, new_size, READ)
    assert proof == unhex(CONSISTENCY[old_size, new_size])
    verify_consistency(
        old_size=old_size, new_size=new_size, old_root=root(old_size), new_root=root(new_size), proof=proof
    )


def test_the_example_of_rfc_6962_has_the_paths_the_rfc_lists() -> None:
    """RFC 6962 section 2.1.3: seven leaves, with the nodes named as in its figure."""
    entries = [f"d{index}".encode() for index in range(7)]
    a, b, c, d, e, f, j = map(leaf_hash, entries)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, whole = node_hash(g, h), node_hash(i, j)
    read = reader(entries)
    assert Frontier.of(7, read).root == node_hash(k, whole)
    assert inclusion_proof(0, 7, read) == (b, h, whole)
    assert inclusion_proof(3, 7, read) == (c, g, whole)
    assert inclusion_proof(4, 7, read) == (f, j, k)
    assert inclusion_proof(6, 7, read) == (i, k)
    assert consistency_proof(3, 7, read) == (c, d, g, whole)
    assert consistency_proof(4, 7, read) == (whole,)
    assert consistency_proof(6, 7, read) == (i, j, k)


def test_a_leaf_cannot_pass_for_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def wrong_inclusions(index: int, size: int) -> Iterator[dict[str, Any]]:
    proof = unhex(INCLUSION[index, size])
    yield from ({"index": other} for other in (index - 1, index + 1, index ^ 2, -1, size, 2**70))
    yield from ({"size": other} for other in (size * 2, size // 2, 0, -1))
    yield from ({"leaf": other} for other in (b"", b"short", SOME_HASH))
    yield from ({"root": other} for other in (b"", EMPTY_ROOT, SOME_HASH))
    yield from wrong_proofs(proof, root(size))


def wrong_proofs(proof: tuple[bytes, ...], extra: bytes) -> Iterator[dict[str, Any]]:
    yield from ({"proof": other} for other in ((*proof, b""), (*proof, extra), (b"", *proof), (extra, *proof)))
    yield {"proof": (*proof, *[SOME_HASH] * 100)}
    for place, value in enumerate(proof):
        yield {"proof": (*proof[:place], bytes([value[0] ^ 8]) + value[1:], *proof[place + 1 :])}
        yield {"proof": (*proof[:place], *proof[place + 1 :])}


@pytest.mark.parametrize(
    ("index", "size", "change"),
    [(*key, change) for key in INCLUSION if key != (0, 1) for change in wrong_inclusions(*key)],
)
def test_an_inclusion_proof_with_anything_changed_is_refused(index: int, size: int, change: dict[str, Any]) -> None:
    right = {
        "index": index,
        "size": size,
        "leaf": leaf_hash(LEAVES[index]),
        "root": root(size),
        "proof": unhex(INCLUSION[index, size]),
    }
    with pytest.raises(Refused) as refusal:
        verify_inclusion(**(right | change))
    assert refusal.value.code == "evidence.inclusion-false"


def wrong_consistencies(old_size: int, new_size: int) -> Iterator[dict[str, Any]]:
    proof = unhex(CONSISTENCY[old_size, new_size])
    yield from ({"old_size": other} for other in (old_size - 1, old_size + 1, old_size ^ 2, new_size, new_size + 1))
    yield from ({"new_size": other} for other in (new_size * 2, new_size // 2, 0, -1))
    yield from ({"old_root": other} for other in (b"", SOME_HASH, EMPTY_ROOT, root(new_size)))
    yield from ({"new_root": other} for other in (b"", SOME_HASH, root(old_size)))
    yield {"proof": ()}
    yield from wrong_proofs(proof, root(old_size))


@pytest.mark.parametrize(
    ("old_size", "new_size", "change"),
    [(*key, change) for key in CONSISTENCY if key != (1, 1) for change in wrong_consistencies(*key)],
)
def test_a_consistency_proof_with_anything_changed_is_refused(
    old_size: int, new_size: int, change: dict[str, Any]
) -> None:
    right = {
        "old_size": old_size,
        "new_size": new_size,
        "old_root": root(old_size),
        "new_root": root(new_size),
        "proof": unhex(CONSISTENCY[old_size, new_size]),
    }
    with pytest.raises(Refused) as refusal:
        verify_consistency(**(right | change))
    assert refusal.value.code == "evidence.consistency-false"


@pytest.mark.parametrize(
    ("old_size", "new_size", "old_root", "new_root", "proof"),
    [
        (0, 0, EMPTY_ROOT, SOME_HASH, ()),
        (0, 1, SOME_HASH, root(1), ()),
        (0, 1, EMPTY_ROOT, root(1), (SOME_HASH,)),
        (1, 1, root(1), SOME_HASH, ()),
        (1, 1, root(1), root(1), (SOME_HASH,)),
        (2, 1, root(2), root(1), ()),
    ],
)
def test_equal_and_empty_trees_leave_no_room_for_a_false_claim(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: tuple[bytes, ...]
) -> None:
    with pytest.raises(Refused, match="consistency-false"):
        verify_consistency(old_size=old_size, new_size=new_size, old_root=old_root, new_root=new_root, proof=proof)


def test_the_empty_tree_begins_every_tree() -> None:
    verify_consistency(old_size=0, new_size=8, old_root=EMPTY_ROOT, new_root=root(8), proof=())
    assert consistency_proof(0, 8, READ) == ()


@pytest.mark.parametrize(("index", "size"), [(0, 0), (8, 8), (-1, 8)])
def test_no_proof_is_made_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(Refused, match="index-out-of-range"):
        inclusion_proof(index, size, READ)


@pytest.mark.parametrize(("old_size", "new_size"), [(8, 7), (-1, 3)])
def test_no_proof_is_made_that_time_runs_backwards(old_size: int, new_size: int) -> None:
    with pytest.raises(Refused, match="sizes-out-of-order"):
        consistency_proof(old_size, new_size, READ)
