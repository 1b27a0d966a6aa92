"""Large files over Xet, brought by the stock client as it is."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from sqlalchemy import select

from gongqi.resources.hub import extents
from gongqi.resources.hub.models import Extent, ReceivedXorb
from tests.resources.hub.huggingface.bringing import (
    bringer,
    fetched,
    held_files,
    limited,
    noise,
    rows,
    stock,
    written,
    xorbs_of,
)

pytestmark = pytest.mark.long


def test_the_stock_client_uploads_a_file_over_xet_and_gets_it_back(hub, repo, tmp_path):
    content = noise(3_000_000)
    done = stock(hub, "file", repo, written(tmp_path, {"weights.bin": content}) / "weights.bin")
    assert done.returncode == 0, done.stderr
    assert fetched(hub, repo, "weights.bin") == content
    assert rows(hub, of=Extent) > 0, "it went another way"
    assert held_files(hub) == []


def test_the_stock_client_uploads_a_folder_of_all_sorts(hub, repo, tmp_path):
    large, small = noise(70 << 20, 2), noise(200_000, 3)
    files = {
        "large.bin": large,
        "nested/edited.bin": large[: 20 << 20] + b"a change" + large[20 << 20 :],
        "nested/small.bin": small,
        "twin.bin": small,
        "repetitive.bin": b"\0\1\2\3" * 3_000_000,
        "zeros.bin": bytes(1 << 20),
        "empty.bin": b"",
        "README.md": b"# All sorts\n",
    }
    done = stock(hub, "folder", repo, written(tmp_path, files))
    assert done.returncode == 0, done.stderr
    for name, content in files.items():
        assert fetched(hub, repo, name) == content, name
    assert held_files(hub) == []
    assert rows(hub, ReceivedXorb.held > "") == 0


def test_the_stock_client_does_not_send_known_content_again_to_its_repository_and_is_to_another(
    hub, api, repo, tmp_path
):
    content = noise(2_000_000, 4)
    source = written(tmp_path, {"a.bin": content, "b.bin": content + b"more", "c.bin": content})
    other = f"{repo}-other"
    api.create_repo(other, private=False)
    assert stock(hub, "file", repo, source / "a.bin").returncode == 0
    sent = rows(hub)
    assert stock(hub, "file", repo, source / "b.bin").returncode == 0
    with hub.kernel.db.reading() as session:
        sizes = session.scalars(select(ReceivedXorb.size).order_by(ReceivedXorb.at.desc())).all()
    assert len(sizes) == sent + 1 and sizes[0] < len(content) // 10, "the client sent what it knew to be here"
    assert stock(hub, "file", other, source / "c.bin").returncode == 0
    assert fetched(hub, repo, "b.bin") == content + b"more"
    assert fetched(hub, other, "c.bin") == content


def test_after_a_loss_the_stock_client_sends_everything_again(hub, repo, tmp_path):
    content = noise(1_500_000, 5)
    source = written(tmp_path, {"a.bin": content, "b.bin": content + b"more"})
    assert stock(hub, "file", repo, source / "a.bin").returncode == 0
    space = bringer(hub, repo).space
    names = xorbs_of(hub, space)
    hub.kernel.transact(lambda ctx: extents.lose(ctx, space, names), reason="test")
    done = stock(hub, "file", repo, source / "b.bin")
    assert done.returncode == 0, done.stderr
    assert fetched(hub, repo, "b.bin") == content + b"more"


def test_the_stock_client_gets_over_a_cut_line(hub, repo, tmp_path):
    content = noise(20 << 20, 7)
    with Cutter(hub.foundation.port, after_bytes=8 << 20, times=2) as cutter:
        done = stock(hub, "file", repo, written(tmp_path, {"w.bin": content}) / "w.bin", url=cutter.url)
    assert done.returncode == 0, done.stderr
    assert cutter.cuts == 2
    assert fetched(hub, repo, "w.bin") == content
    assert held_files(hub) == []


class Cutter:
    """A line to the server that breaks, so many times, when so many bytes have gone up over one connection."""

    def __init__(self, port: int, *, after_bytes: int, times: int) -> None:
        self.cuts, self._port, self._after, self._times = 0, port, after_bytes, times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Cutter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for one, other, is_up in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._carry, args=(one, other, is_up), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, is_up: bool) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while chunk := one.recv(1 << 16):
                count += len(chunk)
                if is_up and count > self._after and self.cuts < self._times:
                    self.cuts += 1
                    break
                other.sendall(chunk)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def test_the_stock_client_says_why_it_was_refused(hub, repo, tmp_path):
    source = written(tmp_path, {"big.bin": noise(300_000, 6)}) / "big.bin"
    with limited(hub, 1000):
        done = stock(hub, "file", repo, source)
    assert done.returncode != 0
    assert "403" in done.stderr or "413" in done.stderr or "422" in done.stderr, done.stderr[-2000:]
    assert held_files(hub) == []
