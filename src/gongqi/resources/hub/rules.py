"""Hub rules: what an asset, a path, a card and a revision may look like. Pure thought; nothing is read or written.

Invariants:
- A path that passes `check_path` names one place inside a revision on every file system and in every protocol door.
- Two files of one revision never differ only by case or by Unicode form.
- A card is plain data: no aliases, no tags, no double keys, no dates or "no" turned into something else.
- A revision's digest covers everything that changes its meaning: files, components, licences, card, parents.

Source: huggingface_hub `validate_repo_id` (names every stock client can address); UAX #15 (normal forms);
CVE-2021-42574 (bidirectional controls); YAML 1.2 core schema; RFC 8785 (canonical JSON).
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import rfc8785
import yaml

from gongqi.kernel.errors import Refused

# --- names ---------------------------------------------------------------------------------------------------------

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# What stock clients refuse to ask for, although the pattern above would allow it.
_UNADDRESSABLE = re.compile(r"--|\.\.|[.-]$|\.git$|\.ipynb$")

COMPONENT_KINDS = (
    "architecture",
    "parameters",
    "training-code",
    "inference-code",
    "evaluation-code",
    "evaluation-data",
    "evaluation-results",
    "supporting-libraries",
    "model-card",
    "data-card",
    "technical-report",
    "datasets",
    "preprocessing-code",
    "intermediate-parameters",
    "research-paper",
    "sample-outputs",
    "model-metadata",
)


# What a file probably is, by its name or ending: a first guess, for a person to correct.
LIKELY_COMPONENT = {
    "readme.md": "model-card", "train.py": "training-code", "infer.py": "inference-code", "evaluate.py": "evaluation-code",
    "config.json": "architecture", "results.json": "evaluation-results", "requirements.txt": "supporting-libraries",
    ".onnx": "parameters", ".safetensors": "parameters", ".gguf": "parameters", ".parquet": "datasets", ".csv": "datasets",
    ".jsonl": "datasets", ".arrow": "datasets", ".pdf": "technical-report",
}  # fmt: skip


def likely_components(kind: str) -> dict[str, str]:
    """Name or ending, in lower case, → the component that it suggests in an asset of this kind."""
    return LIKELY_COMPONENT | ({"readme.md": "data-card"} if kind == "dataset" else {})


def likely_component(path: str, likely: Mapping[str, str]) -> str | None:
    name = path.rpartition("/")[2].lower()
    return likely.get(name) or likely.get("." + name.rpartition(".")[2])


def check_slug(slug: str) -> str:
    """The slug itself. Raises Refused hub.slug-invalid."""
    if not SLUG.fullmatch(slug) or _UNADDRESSABLE.search(slug):
        raise Refused("hub.slug-invalid", slug=slug[:80])
    return slug


def check_component(kind: str) -> str:
    """The component kind itself. Raises Refused hub.component-unknown."""
    if kind not in COMPONENT_KINDS:
        raise Refused("hub.component-unknown", component=kind[:80], known=", ".join(COMPONENT_KINDS))
    return kind


# Names of branches and tags that git and every client can say: git-check-ref-format(1), and no look of a commit's name.
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,249}")
_REF_FLAW = re.compile(r"\.\.|//|/\.|\.lock(/|$)|[./]$|^refs/|^[0-9a-f]{40}$")
MAIN = "main"


def check_ref(name: str) -> str:
    """The name itself. Raises Refused hub.ref-invalid."""
    if not REF.fullmatch(name) or _REF_FLAW.search(name):
        raise Refused("hub.ref-invalid", ref=ascii(name[:80])[1:-1])
    return name


# --- paths ---------------------------------------------------------------------------------------------------------

PATH_LIMIT_BYTES = 1024  # below PATH_MAX of every system we meet, with room for the folder it lands in
SEGMENT_LIMIT_BYTES = 255  # NAME_MAX
FILE_COUNT_LIMIT = 100_000  # a revision is listed, hashed and signed as a whole
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def path_flaw(path: str) -> str | None:
    """The code of the first rule this path breaks, or None."""
    segments = path.split("/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "hub.path-absolute"
    if "\\" in path:
        return "hub.path-backslash"
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in _BIDI for c in path):
        return "hub.path-control"
    if ".." in segments:
        return "hub.path-traversal"
    if "" in segments or "." in segments:
        return "hub.path-empty-segment"
    if not unicodedata.is_normalized("NFC", path):
        return "hub.path-not-nfc"
    if len(path.encode()) > PATH_LIMIT_BYTES or any(len(s.encode()) > SEGMENT_LIMIT_BYTES for s in segments):
        return "hub.path-too-long"
    return None


def check_path(path: str) -> str:
    """The path itself. Raises Refused hub.path-*."""
    if code := path_flaw(path):
        raise Refused(code, path=ascii(path[:200])[1:-1], limit_bytes=PATH_LIMIT_BYTES)
    return path


# Small letters of other alphabets that are drawn as Latin ones are (UTS #39, confusables.txt), after folding.
_DRAWN_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0475\u03bf\u03b9\u03bd\u03c1\u03b1\u0578\u057d",
    "aeopcyxijshdqwvoivpanu",
)


def path_twin(path: str) -> str:
    """What two paths share when some file system or eye would take them for one another."""
    folded = unicodedata.normalize("NFKC", path).casefold()
    return unicodedata.normalize("NFKC", folded).translate(_DRAWN_ALIKE)


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths of one revision, sorted. Raises Refused hub.path-*, hub.too-many-files."""
    ordered = sorted(check_path(path) for path in paths)
    if len(ordered) > FILE_COUNT_LIMIT:
        raise Refused("hub.too-many-files", count=len(ordered), limit=FILE_COUNT_LIMIT)
    files: dict[str, str] = {}
    for path in ordered:
        twin = path_twin(path)
        if twin in files:
            raise Refused("hub.path-twin", path=path, other=files[twin])
        files[twin] = path
    # Folders twin like files do: "Data/a" and "data/b" merge on some disks, and a file cannot also be a folder.
    folders: dict[str, str] = {}
    for path in ordered:
        parts = path.split("/")
        for folder in ("/".join(parts[:depth]) for depth in range(1, len(parts))):
            twin = path_twin(folder)
            other = files.get(twin) or folders.setdefault(twin, folder)
            if other != folder or twin in files:
                raise Refused("hub.path-twin", path=path, other=other)
    return tuple(ordered)


# --- cards ---------------------------------------------------------------------------------------------------------

CARD_PATH = "README.md"
CARD_LIMIT_BYTES = 1 << 20
FRONT_MATTER_LIMIT_BYTES = 64 << 10  # PyYAML in Python reads about 200 kB a second
CARD_DEPTH_LIMIT = 12  # of nested lists and maps
_LARGEST_INTEGER = (1 << 53) - 1  # RFC 8785 numbers are IEEE doubles

Text = Mapping[str, str]  # language -> words; the key "und" (BCP 47: undetermined) for words given without a language


@dataclass(frozen=True, slots=True)
class Card:
    """The front matter of an asset's README.md in one form, whoever wrote it. `other` keeps what we do not read."""

    title: Text
    summary: Text
    license: str | None
    provenance: Text
    intended_use: Text
    limitations: Text
    contact: str | None
    languages: tuple[str, ...]
    tasks: tuple[str, ...]
    other: Mapping[str, Any]
    body: str

    def front_matter(self) -> dict[str, Any]:
        """The card's data as plain JSON values, without the body."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in ("body", "other")}
        return {**{k: dict(v) if isinstance(v, Mapping) else v for k, v in fields.items()}, "other": dict(self.other)}


class _CardLoader(yaml.SafeLoader):
    """YAML 1.2 core schema, and less: no aliases (they multiply), no tags, no double keys, bounded depth.

    Lines are counted as the author sees them: from 1, with the fence before the first line of YAML.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise Refused("hub.card-alias", line=self.peek_event().start_mark.line + 2)
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise Refused("hub.card-malformed", line=event.start_mark.line + 2)
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > CARD_DEPTH_LIMIT:
            raise Refused("hub.card-malformed", line=event.start_mark.line + 2)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(keys) < len(node.value) or len(set(keys)) < len(keys):
                raise Refused("hub.card-malformed", line=node.start_mark.line + 2)
        return node


# YAML 1.1 reads `no` as false, 1:30 as ninety and 2024-01-01 as a date; a language code and a version are strings.
_CardLoader.yaml_implicit_resolvers = {}
for _tag, _form, _firsts in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,15})", list("-+0123456789")),
    ("float", r"[-+]?[0-9]{1,17}\.[0-9]{1,17}([eE][-+]?[0-9]{1,3})?", list("-+0123456789")),
):
    _CardLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), _firsts)

_FENCE = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
# The names the wider community writes for the same things.
_SYNONYMS = {
    "title": ("title", "pretty_name"),
    "summary": ("summary", "description"),
    "license": ("license",),
    "provenance": ("provenance", "source"),
    "intended_use": ("intended_use", "intended-use", "intended use"),
    "limitations": ("limitations",),
    "contact": ("contact",),
    "languages": ("languages", "language"),
    "tasks": ("tasks", "pipeline_tag", "task_categories"),
}


def no_card(body: str = "") -> Card:
    """The card of what has none yet: nothing is said, so nothing can be released."""
    none: Text = MappingProxyType({})
    return Card(none, none, None, none, none, none, None, (), (), MappingProxyType({}), body)


# What cards of a kind say beyond that, and people and tools look for: its form is checked, and it stays in `other`.
KNOWN_FIELDS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "library_name": "line", "base_model": "words", "datasets": "words", "metrics": "words", "personal_data": "text",
    },
    "dataset": {
        "size_categories": "words", "source_datasets": "words", "annotations_creators": "words",
        "multilinguality": "words", "citation": "line", "personal_data": "text",
    },
    "agent": {"base_model": "words", "tools": "words", "protocols": "words", "permissions": "words"},
    "tool": {"protocols": "words", "inputs": "text", "outputs": "text", "permissions": "words"},
    "code": {"programming_languages": "words", "repository": "line", "dependencies": "words"},
}  # fmt: skip


def parse_card(content: bytes, kind: str | None = None) -> Card:
    """Read the README.md of an asset of this kind, if that is known; one without front matter says nothing yet.

    Raises Refused hub.card-too-large, hub.card-alias, hub.card-malformed, hub.card-field.
    """
    if len(content) > CARD_LIMIT_BYTES:
        raise Refused("hub.card-too-large", size_bytes=len(content), limit_bytes=CARD_LIMIT_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Refused("hub.card-malformed", line=content[: fault.start].count(b"\n") + 1) from fault
    fence = _FENCE.match(text)
    if fence is None:
        return no_card(text)
    if len(fence[1].encode()) > FRONT_MATTER_LIMIT_BYTES:
        raise Refused("hub.card-too-large", size_bytes=len(fence[1].encode()), limit_bytes=FRONT_MATTER_LIMIT_BYTES)
    fields = _front_matter(fence[1])
    for name, form in {"tags": "words", **KNOWN_FIELDS.get(kind or "", {})}.items():
        {"line": _line, "words": _words, "text": _text}[form](name, fields.get(name))
    taken = {name: next((fields.pop(key) for key in keys if key in fields), None) for name, keys in _SYNONYMS.items()}
    return Card(
        title=_text("title", taken["title"]),
        summary=_text("summary", taken["summary"]),
        license=_line("license", taken["license"]),
        provenance=_text("provenance", taken["provenance"]),
        intended_use=_text("intended_use", taken["intended_use"]),
        limitations=_text("limitations", taken["limitations"]),
        contact=_line("contact", taken["contact"]),
        languages=_words("languages", taken["languages"]),
        tasks=_words("tasks", taken["tasks"]),
        other=MappingProxyType(fields),
        body=text[fence.end() :],
    )


def _front_matter(text: str) -> dict[str, Any]:
    try:
        fields = yaml.load(text, _CardLoader)  # a SafeLoader made stricter
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line if fault.problem_mark else 0
        raise Refused("hub.card-malformed", line=line + 2, detail=fault.problem) from fault
    except yaml.YAMLError as fault:
        raise Refused("hub.card-malformed", line=1, detail=str(fault)) from fault
    fields = {} if fields is None else fields
    if not isinstance(fields, dict):
        raise Refused("hub.card-malformed", line=2)
    if any(not isinstance(key, str) for key in fields) or not _is_canonical(fields):
        raise Refused("hub.card-malformed", line=1)
    return fields


def _is_canonical(value: Any) -> bool:
    """Whether RFC 8785 can write the value down."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_canonical(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_canonical(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) <= _LARGEST_INTEGER


def _text(name: str, value: Any) -> Text:
    if value is None:
        return MappingProxyType({})
    if isinstance(value, str):
        return MappingProxyType({"und": value.strip()} if value.strip() else {})
    if not isinstance(value, dict) or not all(isinstance(words, str) for words in value.values()):
        raise Refused("hub.card-field", field=name)
    return MappingProxyType({language: words.strip() for language, words in value.items() if words.strip()})


def _line(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused("hub.card-field", field=name)
    return (value or "").strip() or None


def _words(name: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value or []
    if not isinstance(values, list) or not all(isinstance(word, str) for word in values):
        raise Refused("hub.card-field", field=name)
    return tuple(word.strip() for word in values if word.strip())


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of a card is written: whole percent of the points its kind asks for, and the points that are missing."""

    percent: int
    missing: tuple[str, ...]


_BOTH_LANGUAGES = ("title", "summary")
_COMMON = ("license", "provenance", "intended_use", "limitations", "contact")
REQUIRED_FIELDS: Mapping[str, tuple[str, ...]] = {
    "model": (*_COMMON, "tasks"),
    "dataset": _COMMON,
    "agent": (*_COMMON, "languages", "tasks"),
    "code": ("license", "provenance", "contact"),
    "tool": ("license", "provenance", "intended_use", "contact"),
}


def completeness(card: Card, kind: str) -> Completeness:
    """Which points the card of an asset of this kind still lacks, e.g. `title.zh` or `limitations`."""
    points = {
        f"{name}.{language}": language in getattr(card, name) for name in _BOTH_LANGUAGES for language in ("zh", "en")
    }
    points |= {name: bool(getattr(card, name)) for name in REQUIRED_FIELDS[kind]}
    missing = tuple(point for point, present in points.items() if not present)
    return Completeness(percent=100 * (len(points) - len(missing)) // len(points), missing=missing)


# --- revisions -----------------------------------------------------------------------------------------------------

_DIGEST = re.compile(r"[0-9a-f]{64}")
OID_LENGTH = 40  # hexadecimal digits of a revision's digest by which git and its like call it


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a revision. `license` is an SPDX expression of its own, or None when the card's applies."""

    path: str
    size: int
    sha256: str
    component: str | None = None
    license: str | None = None


def without(files: Mapping[str, FileEntry], removed: Iterable[str]) -> dict[str, FileEntry]:
    """`files` by path, less those named, or under a folder named with a slash at its end.

    Raises Refused hub.file-absent for what is not there.
    """
    left = dict(files)
    for name in removed:
        gone = [path for path in left if path.startswith(name)] if name.endswith("/") else [name]
        if not gone or gone[0] not in left:
            raise Refused("hub.file-absent", path=ascii(name[:200])[1:-1])
        for path in gone:
            del left[path]
    return left


def copied(files: Mapping[str, FileEntry], source: str, target: str) -> dict[str, FileEntry]:
    """The file `source` as `target`. Raises Refused hub.file-absent, hub.path-*."""
    if source not in files:
        raise Refused("hub.file-absent", path=ascii(source[:200])[1:-1])
    return {check_path(target): replace(files[source], path=target)}


def card_digest(card: Card) -> str:
    """SHA-256 (hex) over the canonical JSON of the card's data and its body."""
    return _sha256({"body": card.body, "front_matter": card.front_matter(), "type": "gongqi.card.v1"})


def revision_digest(files: Sequence[FileEntry], *, card: str, parents: Iterable[str]) -> str:
    """SHA-256 (hex) that names a revision; `card` and `parents` are hex digests. The order of files does not matter.

    Raises Refused hub.path-*, hub.digest-invalid, hub.too-many-files.
    """
    check_paths(entry.path for entry in files)
    ancestors = sorted(set(parents))
    for digest in (card, *ancestors, *(entry.sha256 for entry in files)):
        if not _DIGEST.fullmatch(digest):
            raise Refused("hub.digest-invalid", digest=digest[:80])
    listed = [
        {"component": e.component, "license": e.license, "path": e.path, "sha256": e.sha256, "size": e.size}
        for e in sorted(files, key=lambda entry: entry.path)
    ]
    return _sha256({"card": card, "files": listed, "parents": ancestors, "type": "gongqi.revision.v1"})


def _sha256(document: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
