"""What is personal data in the obvious sense: forms that say who somebody is, whatever stands around them. Pure thought.

Not a promise that nothing personal is left: a name in a sentence looks like any other word. It keeps out what no dataset
should ever have, and errs on the side of leaving out; check digits tell numbers that identify from those that do not.

Source: GB 11643-1999 (resident identity numbers, check by ISO/IEC 7064 MOD 11-2); ISO 13616 (IBAN, MOD 97-10);
ISO/IEC 7812-1 (card numbers, Luhn); ITU-T E.164 (international telephone numbers).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 32  # of what a caller gives; deeper is not looked at, and therefore not taken

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}")
_RESIDENT = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[0-9Xx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?<!\d)1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)")
_TELEPHONE = re.compile(r"(?<![0-9+])\+[1-9]\d{0,2}(?:[ -.]?\(?\d{2,4}\)?){2,5}(?!\d)")
_CARD = re.compile(r"(?<![0-9])\d(?:[ -]?\d){12,18}(?![0-9])")
_IBAN = re.compile(r"(?<![0-9A-Z])[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Z])")


def personal_in(text: str) -> list[str]:
    """The kinds of personal data that are in a text, never a value."""
    return [kind for kind, (form, holds) in _KINDS.items() if any(holds(found[0]) for found in form.finditer(text))]


def texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text and number in a JSON value, names too. Raises ValueError when it is deeper than MAX_DEPTH."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts_in(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each, depth + 1)
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield str(value)


def _always(_text: str) -> bool:
    return True


def _is_resident(text: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    check = sum(int(digit) * weight for digit, weight in zip(text[:17], weights, strict=True)) % 11
    return "10X98765432"[check] == text[17].upper()


def _is_card(text: str) -> bool:
    digits = [int(each) for each in text if each.isdigit()]
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return len(plain) >= 15 and int("".join(str(int(each, 36)) for each in moved)) % 97 == 1


_KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (_EMAIL, _always),
    "resident-id": (_RESIDENT, _is_resident),
    "mobile": (_MOBILE, _always),
    "telephone": (_TELEPHONE, _always),
    "card": (_CARD, _is_card),
    "iban": (_IBAN, _is_iban),
}
