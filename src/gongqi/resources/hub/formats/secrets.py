"""The forms of secrets: what an issuer's prefix and length tell from any other text. Pure thought."""

from __future__ import annotations

import re

# kind → (literals of which every match contains one, for a quick look; pattern). A kind is the issuer's name, or a code
# that is worded. Only forms that nothing else has, for a finding refuses the file: issuers' prefixes with their exact
# lengths. All are bounded and cannot backtrack far; the placeholders of manuals do not match.
# Source: the issuers' documentation; GitHub's list of supported secret scanning patterns.
SECRETS: dict[str, tuple[tuple[bytes, ...], re.Pattern[bytes]]] = {
    "private-key": (
        (b"PRIVATE KEY",),
        re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    ),
    "AWS": ((b"AKIA", b"ASIA"), re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b(?<!EXAMPLE)")),
    "Alibaba Cloud": ((b"LTAI5t",), re.compile(rb"\bLTAI5t[A-Za-z0-9]{18}\b")),
    "Anthropic": ((b"sk-ant-",), re.compile(rb"\bsk-ant-[a-z]{3,8}[0-9]{2}-[\w-]{80,120}\b")),
    "GitHub": ((b"gh", b"github_pat_"), re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{82})\b")),
    "GitLab": ((b"glpat-",), re.compile(rb"\bglpat-[\w-]{20}\b")),
    "Gongqi": ((b"gq_",), re.compile(rb"\bgq_[A-Za-z0-9]{20,}")),
    "Google Cloud": ((b"AIza",), re.compile(rb"\bAIza[\w-]{35}\b")),
    "Hugging Face": ((b"hf_",), re.compile(rb"\bhf_[A-Za-z0-9]{34}\b")),
    "npm": ((b"npm_",), re.compile(rb"\bnpm_[A-Za-z0-9]{36}\b")),
    "OpenAI": ((b"T3BlbkFJ",), re.compile(rb"\bsk-[\w-]{20,100}T3BlbkFJ[\w-]{20,100}\b")),
    "PyPI": ((b"pypi-AgE",), re.compile(rb"\bpypi-AgE[\w-]{50,200}\b")),
    "Slack": ((b"xox",), re.compile(rb"\bxox[abeoprs]-[0-9]{8,14}-[A-Za-z0-9-]{10,120}\b")),
    "Stripe": ((b"_live_",), re.compile(rb"\b[rs]k_live_[A-Za-z0-9]{24,120}\b")),
}


def secrets_in(text: bytes) -> list[str]:
    """The kinds of secrets that are in a text, never a value."""
    return [
        kind
        for kind, (literals, pattern) in SECRETS.items()
        if any(literal in text for literal in literals) and pattern.search(text)
    ]
