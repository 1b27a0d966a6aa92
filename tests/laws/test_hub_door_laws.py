"""Laws of the door for hub clients: a commit is read the same however it is cut, a tree is whole however it is paged."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from gongqi.doors.web.protocols import ByName
from gongqi.kernel.errors import Refused
from gongqi.resources.hub.browsing import Folder
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.lines import Change, note, read_lines

names = st.text("ab.-0", min_size=1, max_size=3).filter(lambda name: name.strip("."))
trees = st.sets(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=12)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_lines_do_not_depend_on_how_they_are_cut(body: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})

    async def read() -> list[bytes]:
        async def stream() -> AsyncIterator[bytes]:
            for start, end in pairwise(ends):
                yield body[start:end]

        return [line async for line in read_lines(stream())]

    assert anyio.run(read) == [line for line in body.split(b"\n") if line.strip()]


@given(
    st.binary(max_size=200) | st.dictionaries(st.text(max_size=8), st.text(max_size=8)).map(lambda d: str(d).encode())
)
def test_any_line_is_read_or_refused(line: bytes) -> None:
    try:
        note(Change(), line)
    except Refused as refused:
        assert refused.code in ("hub.hf-line-invalid", "hub.hf-body-invalid")


@given(st.binary(max_size=600), st.integers(0, 8 << 20))
def test_a_file_inside_a_commit_comes_out_as_it_went_in(content: bytes, size: int) -> None:
    line = b'{"key":"file","value":{"path":"a","content":"' + base64.b64encode(content) + b'"}}'
    assert note(Change(), line) == ("a", content)
    mode = forms.upload_mode(size, content)
    assert mode == "lfs" if size > forms.REGULAR_BYTES or b"\0" in content else mode in ("lfs", "regular")


@given(st.text(min_size=1, max_size=200), st.integers(0, 3))
def test_text_is_text_even_when_a_sample_cuts_a_character(text: str, cut: int) -> None:
    sample = (text.replace("\0", "") + "水").encode()
    assert forms.is_text(sample[: len(sample) - cut] if len(sample) - cut > forms.SAMPLE_CUT else sample)


@given(trees, st.integers(1, 5))
def test_a_tree_names_every_file_and_every_folder_once_however_it_is_paged(paths: set[str], size: int) -> None:
    files = [FileFacts(path, "0" * 64, 1, None, None) for path in sorted(paths)]
    folders = {path[:at] for path in paths for at, sign in enumerate(path) if sign == "/"}
    found: list[FileFacts | Folder] = []
    start = ""
    for first in range(0, len(files), size):
        page = files[first : first + size]
        found += forms.with_folders(page, "", start)
        start = page[-1].path + "\x01"
    told = [each.path for each in found if isinstance(each, Folder)]
    assert sorted(told) == sorted(folders)
    assert [each for each in found if isinstance(each, FileFacts)] == files
    for number, each in enumerate(found):  # a folder stands before what is in it
        inside = [at for at, other in enumerate(found) if other.path.startswith(each.path + "/")]
        assert not isinstance(each, Folder) or min(inside, default=number + 1) > number


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"accept"]), st.binary(max_size=3)), max_size=6))
def test_headers_found_by_name_are_those_that_are_found_by_looking(raw: list[tuple[bytes, bytes]]) -> None:
    looked, named = Headers(raw=raw), ByName({"headers": raw})
    for name in ("a", "A", "b", "Accept", "c"):
        assert named.get(name) == looked.get(name)
        assert named.get(name, "-") == looked.get(name, "-")
        assert named.getlist(name) == looked.getlist(name)
        assert (name in named) == (name in looked)
        try:
            value = looked[name]
        except KeyError:
            with pytest.raises(KeyError):
                named[name]
        else:
            assert named[name] == value
    assert (named.items(), list(named)) == (looked.items(), list(looked))


def test_a_line_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(Refused, match="hf-line-invalid"):
        note(Change(), b'{"key": "file", "value": {"path": "a", "content": "\\u6c34"}}')
