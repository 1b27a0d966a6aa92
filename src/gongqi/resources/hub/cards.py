"""An author's card as HTML that can do nothing: CommonMark and tables, without raw HTML, scripts, pictures or styles.

What the author writes is parsed into tokens and only tokens are written out, so there is nothing to be cleaned
afterwards. Addresses keep to the schemes that markdown-it allows (http, https, mailto); pictures would be fetched from
wherever the author likes, and tell them who reads.
"""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markupsafe import Markup

SHOWN_CARD_CHARACTERS = 60_000  # some twenty printed pages; the rest is in the file
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table").disable("image")


@lru_cache(maxsize=128)
def render_card(body: str) -> Markup:
    """The body of a card, its headings below those of the page."""
    tokens = _MARKDOWN.parse(body[:SHOWN_CARD_CHARACTERS])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    for opening, content, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type == "th_open" and not content.content.strip():
            opening.tag = closing.tag = "td"  # an empty corner heads nothing
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
