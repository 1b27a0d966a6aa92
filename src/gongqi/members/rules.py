"""Identity as pure thought: names, permission patterns, how long things last, how guessing is slowed.

Patterns (`*`, `room:*`, `room:noun:*`, `room:noun:verb`) form an order, `covers`. Two invariants hang on it: nobody
gives a role they do not hold themselves, and a token never reaches further than the token or the person that made it.

Guessing. Attempts are counted before the password is looked at, so that a thousand parallel guesses count as a
thousand. They are counted three times: for the name from this address (a person mistyping), for the address (one
machine trying many names) and for the name (many machines trying one name). The last has a high limit, or anyone could
lock anyone out. After its limit each further attempt doubles the pause.

Source: NIST SP 800-63B-4 (2025) §3.1.1 passwords, §3.2.2 rate limiting, §5 sessions; OWASP Session Management cheat
sheet.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from gongqi.kernel.errors import Refused

HANDLE_PATTERN = r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$"  # fits a URL, a DNS label and a folder name
SCOPE_PATTERN = r"^(\*|[a-z][a-z0-9_-]*:(\*|[a-z][a-z0-9_-]*:(\*|[a-z][a-z0-9_-]*)))$"
EMAIL_PATTERN = r"^[^@\s]{1,64}@[^@\s]{1,190}$"  # only a delivery proves more
MAX_HANDLE = 40
MAX_EMAIL = 254  # RFC 5321 §4.5.3.1.3 less the angle brackets
FOUNDATION_HANDLE = "foundation"  # of the organisation that the foundation itself is
MAX_NAME = 120
MAX_SCOPES = 50
MAX_REASON = 300  # a sentence or two: why somebody decided so
GENERAL = "general"  # the tier of every organisation that was given none
MAX_USER_AGENT = 1000

TOKEN_MAX_DAYS = 366
TOKEN_DEFAULT_DAYS = 90
LINK_LIFE = timedelta(minutes=15)
SESSION_LIFE = timedelta(days=14)
SESSION_IDLE = timedelta(hours=12)
FRESH_SIGN_IN = timedelta(minutes=15)  # how recent a sign-in must be to set a password
RECOVERY = timedelta(days=7)  # a password replaced by somebody else's link: time for its owner to notice and to speak
NOTE_USE_EVERY = timedelta(minutes=10)  # how coarsely the last use of a session is kept
NOTE_TOKEN_EVERY = timedelta(hours=1)

MIN_PASSWORD = 15  # NIST SP 800-63B-4 §3.1.1.2, where the password is the only factor
MAX_PASSWORD = 256  # enough for any passphrase; unbounded input would be hashed at our cost
MIN_DISTINCT = 6  # "aaaaaaaaaaaaaaa" is long and no secret

ATTEMPT_LIMITS = {"pair": 5, "address": 50, "subject": 100}
ATTEMPT_WINDOW = timedelta(minutes=15)
FIRST_LOCK = timedelta(minutes=1)
LONGEST_LOCK = timedelta(hours=1)

MACHINES = frozenset({"agent", "site"})
_PREFIXES = {"person": "per", "organisation": "org", "agent": "agt", "site": "site"}
_AGENTS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


def prefix_of(kind: str) -> str:
    return _PREFIXES[kind]


def ids_of(kind: str) -> tuple[str, str]:
    """What no id of a party of this kind comes before, and what none comes after. An id says what it names, and a list
    goes by ids: so that of organisations need not walk past all the people."""
    first = f"{prefix_of(kind)}_"
    return first, first + "z" * 26  # the last letter of their alphabet, as often as an id has letters


def covers(patterns: Collection[str], wanted: Collection[str]) -> bool:
    """Whether every permission that `wanted` matches is also matched by `patterns`."""
    return all(any(_within(each, pattern) for pattern in patterns) for each in wanted)


def overlaps(one: str, other: str) -> bool:
    """Whether some permission is matched by both patterns."""
    return _within(one, other) or _within(other, one)


def _within(small: str, large: str) -> bool:
    return large in ("*", small) or (large.endswith(":*") and small.startswith(large[:-1]))


def normal_password(password: str) -> str:
    """The form that is hashed: NFKC, so that the same keys give the same password on every keyboard and system."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, *, handle: str, name: str) -> None:
    """Raises: Refused when the password is too short, too long, too plain, or contains who it belongs to."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Refused("members.password-length", least=MIN_PASSWORD, most=MAX_PASSWORD)
    folded = password.casefold()
    own = {handle.casefold(), name.casefold()}
    if len(set(folded)) < MIN_DISTINCT or any(len(word) > 2 and word in folded for word in own):
        raise Refused("members.password-plain", distinct=MIN_DISTINCT)


def digest(secret: str) -> str:
    """How tokens, links and session cookies are stored.

    A plain SHA-256 suffices because they hold 256 random bits: there is nothing to guess, so nothing to slow down. Nor
    does looking the digest up leak it by timing: who does not know the secret cannot steer its digest.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def summarise_agent(user_agent: str) -> str:
    """`Firefox, Linux`: enough to recognise one's own session, not enough to fingerprint a person."""
    user_agent = user_agent[:MAX_USER_AGENT]
    browser = next((name for mark, name in _AGENTS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if not browser:
        browser = re.sub(r"[^A-Za-z0-9._-]", "", user_agent.split("/", 1)[0])[:40]
    return ", ".join(part for part in (browser, system) if part)


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is remembered of the tries under one key."""

    count: int
    last_at: datetime
    locked_until: datetime | None

    def seconds_to_wait(self, now: datetime) -> int:
        """Whole seconds until the next attempt is allowed; 0 when it is now."""
        if self.locked_until is None or self.locked_until <= now:
            return 0
        return int((self.locked_until - now).total_seconds()) + 1


def attempt(before: Attempts | None, limit: int, now: datetime) -> Attempts:
    """Count one more attempt; earlier ones are forgotten a window after the last of them, or after its lock ended."""
    forgotten = before is None or max(before.last_at, before.locked_until or before.last_at) + ATTEMPT_WINDOW <= now
    count = 1 if before is None or forgotten else before.count + 1
    return Attempts(count, now, now + lock_for(count, limit) if count >= limit else None)


def lock_for(count: int, limit: int) -> timedelta:
    """The pause after the `count`-th attempt in a row, from `limit` on: doubling, at most LONGEST_LOCK."""
    doublings = min(count - limit, 16)
    return min(FIRST_LOCK * 2**doublings, LONGEST_LOCK)
