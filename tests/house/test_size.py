"""The ground stays small. What is counted is lines of code: a line on which nothing stands but blank space, a comment or
a part of a docstring is none, so that explaining costs nothing and saying it on one long line gains little."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from gongqi import kernel

GROUND_LINES = 3_000  # it is a ground, not a framework: what one more guarantee takes, another gives
NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> int:
    spoken: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            spoken.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - spoken)


def test_the_kernel_is_three_thousand_lines_at_most() -> None:
    files = Path(kernel.__file__).parent.rglob("*.py")
    sizes = {str(path): code_lines(path.read_text("utf-8")) for path in files}
    assert sum(sizes.values()) <= GROUND_LINES, sorted(sizes.items(), key=lambda each: -each[1])[:8]


def test_blank_lines_comments_and_docstrings_are_no_code_and_all_else_is() -> None:
    assert code_lines('"""Two\n\nlines."""\n\n# why\nx = 1  # so\n') == 1
    assert code_lines('def f():\n    """Says."""\n    return """two\nlines"""\n') == 3
    assert code_lines("x = [\n    1,\n\n    2,\n]\n") == 4
