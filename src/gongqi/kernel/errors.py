"""Three families of error, told apart by who can act on them.

`Refused`: the caller can fix it, and the message says how. `Unavailable`: nothing is wrong with the request, try again
later. `Broken`: our bug. Each carries a code; the words for a code (status, 中文, English, remedy) live in the
`words.toml` of the room that raises it, so an error can be read in either language wherever it surfaces.

Public parameters (`params`) appear in the message. Private detail (`detail`) goes to the log and nowhere else.
"""

from __future__ import annotations

Param = str | int | float | None


class GongqiError(Exception):
    """An error with a catalogued code; never raised itself, only through its three families."""

    family = "broken"

    def __init__(self, code: str, *, detail: str | None = None, **params: Param) -> None:
        super().__init__(code, params)
        self.code = code
        self.params = params
        self.detail = detail

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.code}({shown})"


class Refused(GongqiError):
    """The caller can fix it: bad input, a missing right, a rule that says no."""

    family = "refused"


class Unavailable(GongqiError):
    """The request may be right; the moment is not. `retry_after_seconds` tells when to come back."""

    family = "unavailable"

    def __init__(self, code: str, *, retry_after_seconds: int = 1, detail: str | None = None, **params: Param) -> None:
        super().__init__(code, detail=detail, **params)
        self.retry_after_seconds = retry_after_seconds


class Broken(GongqiError):
    """Our bug. The caller learns a request id; the log learns the rest."""

    family = "broken"
