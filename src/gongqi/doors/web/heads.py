"""A head has an end, and trailers are none of it: what uvicorn's parser would gather without bound is bounded.

uvicorn bounds neither the number of headers nor their length, and takes what follows a body in chunks (trailers) for
headers of the request. RFC 9112, sections 3.2 and 7.1.2; RFC 9110, section 6.5.1: a trailer must not be merged into the
headers by who does not know that it may be.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10  # address and headers; nginx and Node take 32 KiB and 16 KiB
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585
)


class Bounded(HttpToolsProtocol):
    """uvicorn's own, whose heads end."""

    _has_head = False
    _frame_bytes = 0  # that came since there was a head or a piece of a body

    def data_received(self, data: bytes) -> None:
        self._frame_bytes += len(data)
        super().data_received(data)
        if self._frame_bytes <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if self._has_head:  # an answer may be under way
            self.transport.abort()
        else:
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._has_head = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._has_head = True
        self._frame_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._frame_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._frame_bytes = 0
        super().on_message_complete()
