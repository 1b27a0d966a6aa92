"""What strangers write is shown and does nothing: cards and files that try to run, load or lead astray, in Chromium."""

from __future__ import annotations

from hashlib import sha256
from itertools import count
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.test_pages import DESKTOP, MAX_FIRST_VIEW_BYTES, TELEPHONE, WIDER, visit

pytestmark = pytest.mark.browser

# After the cheat sheets of OWASP and PortSwigger, and what is particular to Markdown.
TRICKS = (
    "<script>window.fired = 1</script>", "<img src=x onerror='window.fired = 1'>", "<svg onload='window.fired = 1'>",
    "<iframe srcdoc='<script>parent.fired = 1</script>'></iframe>", "<body onload='window.fired = 1'>",
    "<details open ontoggle='window.fired = 1'>", "<input autofocus onfocus='window.fired = 1'>",
    "<style>body { display: none }</style>", "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>", "<base href='https://evil.example/'>",
    "<form action=https://evil.example><button>go</button></form>", "<a href='javascript:window.fired=1'>x</a>",
    "[a](javascript:window.fired=1)", "[b](JaVaScRiPt:window.fired=1)", "[c](&#106;avascript:window.fired=1)",
    "[d](data:text/html,<script>window.fired=1</script>)", "[e](vbscript:window.fired)", "<javascript:window.fired=1>",
    "![f](https://evil.example/spy.png)", "![g](x\"onerror=\"window.fired=1)", "[h]: javascript:window.fired=1\n\n[h]",
    "[i](https://x.example 'y\"onmouseover=\"window.fired=1')", "`</code><script>window.fired=1</script>`",
    "```html\"><script>window.fired=1</script>\n</pre><script>window.fired=1</script>\n```", "{{ 7 * 7 }} {% set x = 1 %}",
    "| a |\n|---|\n| <img src=x onerror=window.fired=1> |", "<!--><script>window.fired=1</script>-->",
    "<div hx-get='/me' hx-trigger='load'>htmx</div>", "<p data-module='https://evil.example/x.js'>module</p>",
    "\u202ereversed\u202c", "</div></section></main><h1>Another page</h1>",
)  # fmt: skip
numbers = count()


def brought(foundation: Any, files: dict[str, bytes], paths: dict[str, list[str]] | None = None) -> str:
    """A public asset of the laboratory with these files; `paths` puts the bytes of a file at other places too."""
    operator, org = foundation.operator, foundation.party("laboratory")
    given = {
        "kind": "model",
        "title_zh": "外来之言",
        "title_en": "Strangers' words",
        "slug": f"strange-{next(numbers)}",
    }
    asset = operator.verb("hub:asset:create", org=org, visibility="public", **given)["id"]
    listed = []
    for path, content in files.items():
        digest = sha256(content).hexdigest()
        url = f"{foundation.url}/api/v1/hub/blob/{digest}"
        token = {"authorization": f"Bearer {(foundation.home / 'operator.token').read_text('ascii').strip()}"}
        answer = httpx.put(url, params={"org": org, "path": path}, content=content, headers=token, timeout=60)
        assert answer.status_code == 201, answer.text
        listed += [{"path": each, "sha256": digest} for each in (paths or {}).get(path, [path])]
    operator.verb("hub:revision:commit", asset=asset, message="as it came", files=listed)
    return asset


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_card_that_tries_everything_does_nothing(read: Any, foundation: Any, language: str) -> None:
    card = "---\nlicense: MIT\ntags: ['<script>window.fired=1</script>']\n---\n" + "\n\n".join(TRICKS)
    asset = brought(foundation, {"README.md": card.encode()})
    page, asked = read(language, width=DESKTOP), []
    page.on("request", lambda request: asked.append(request.url))
    for path in (f"/hub/asset/{asset}", f"/hub/asset/{asset}/file?path=README.md", "/hub"):
        visit(page, path)
        for place in page.locator(".prose a").all():
            place.hover()
        assert page.evaluate("window.fired") is None, path
        assert page.locator("h1").count() == 1 and page.locator("main").is_visible()
        alive = (
            "main :is(script, style, iframe, img, [onload], [onerror]), main form:not([action^='/']), .prose [hx-get]"
        )
        assert page.locator(alive).count() == 0, path
        hrefs = page.locator("main a").evaluate_all("all => all.map((a) => a.protocol)")
        assert set(hrefs) <= {"http:", "https:", "mailto:"}, path
    assert all(url.startswith(foundation.url) for url in asked), "nothing was fetched from elsewhere"
    expect(page.locator("main")).not_to_contain_text("49")


def test_text_that_would_turn_its_direction_is_spelled_out(read: Any, foundation: Any) -> None:
    source = "access = 'user'\nif access != 'user\u202e \u2066# admin\u2069 \u2066': pass\n"
    asset = brought(foundation, {"trojan.py": source.encode(), "null.bin": b"\x00\x01"})
    page = read("en")
    visit(page, f"/hub/asset/{asset}/file?path=trojan.py")
    expect(page.locator(".source")).to_contain_text("⟨U+202E⟩")
    visit(page, f"/hub/asset/{asset}/file?path=null.bin")
    expect(page.locator("main")).to_contain_text(foundation.text("hub.file.binary", "en"))


@pytest.mark.parametrize("width", [TELEPHONE, DESKTOP])
def test_ten_thousand_rows_are_read_page_by_page(read: Any, foundation: Any, width: int) -> None:
    deep = "/".join(["a-folder-with-a-rather-long-name"] * 6) + "/level.txt"
    many = [f"{number:05d}-measured/level.txt" for number in range(9_998)]
    asset = brought(foundation, {"level.txt": f"{width}\n".encode()}, {"level.txt": [*many, deep, "level.txt"]})
    page = read("zh", width=width)
    answer = visit(page, f"/hub/asset/{asset}/files")
    assert len(answer.body()) < MAX_FIRST_VIEW_BYTES
    assert page.locator("tbody tr").count() == 100 and page.evaluate(WIDER) == []
    page.locator(".pager a[rel=next]").click()
    expect(page.locator("tbody tr").first).to_contain_text("00100-measured")
    visit(page, f"/hub/asset/{asset}/files?path={deep.rpartition('/')[0]}")
    assert page.evaluate(WIDER) == [] and page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("main nav.trail").last.get_by_role("link").first.click()
    expect(page.locator("tbody tr")).to_have_count(100)
