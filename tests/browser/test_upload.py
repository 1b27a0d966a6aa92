"""Files brought from a browser: in parts, over cuts, reloads and a server that was killed, and then one revision.

Without scripts the form brings small files itself. What is refused is refused in words, beside the file it is about.
"""

from __future__ import annotations

import pickle
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.test_accessibility import complaints
from tests.browser.test_pages import TELEPHONE, WIDER

pytestmark = pytest.mark.browser

LARGE_BYTES = 20_000_000  # three parts
UPLOADS = re.compile("/api/v1/hub/upload")
numbers = count()


@pytest.fixture
def empty(foundation: Any) -> str:
    """An asset of the laboratory without files."""
    org = foundation.party("laboratory")
    given = {"kind": "model", "title_zh": "上传之物", "title_en": "Brought", "slug": f"brought-{next(numbers)}"}
    return foundation.operator.verb("hub:asset:create", org=org, **given)["id"]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(range(251)) * (LARGE_BYTES // 251))
    return file


def choose(page: Page, *files: Path) -> None:
    page.locator("form.with-script").wait_for()
    page.locator("#field-files").set_input_files([str(file) for file in files])


def state(page: Page, path: str, wanted: str) -> None:
    expect(page.locator(f".item[data-path='{path}']")).to_have_attribute("data-state", wanted, timeout=30_000)


def commit(page: Page, foundation: Any, asset: str, message: str = "As received") -> list[dict[str, Any]]:
    """Press the button; the files of the one revision that comes of it."""
    page.locator("#field-message").fill(message)
    page.locator("form.wide-form button.button-primary").click()
    page.wait_for_url(re.compile("/hub/revision/"))
    revisions = foundation.operator.read("hub:revision:list", asset=asset)["items"]
    assert len(revisions) == 1 and revisions[0]["message"] == message
    return foundation.operator.read("hub:revision:get", revisions[0]["id"])["files"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_files_come_in_parts_and_are_committed_as_one_revision(
    read: Any, foundation: Any, empty: str, large: Path, tmp_path: Path, language: str
) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: Apache-2.0\n---\n# What it is, {language}\n", "utf-8")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(print))
    page = read(language, who="operator", width=TELEPHONE)
    page.goto(f"/hub/asset/{empty}/add")
    choose(page, large, tmp_path / "README.md", tmp_path / "bad.pkl")
    state(page, "bad.pkl", "refused")
    refusal = page.locator(".item[data-path='bad.pkl'] .item-wrong")
    expect(refusal).to_contain_text("hub.pickle")
    expect(refusal).to_contain_text("safetensors")
    page.locator("#field-message").fill("not yet")
    page.locator("form.wide-form button.button-primary").click()
    said, not_yet = page.locator(".said"), foundation.text("hub.add.state.not-yet", language)
    expect(said).to_have_text(not_yet)
    for path in ("weights.bin", "README.md"):
        expect(page.locator(f".item[data-path='{path}']")).to_have_attribute(
            "data-state", re.compile("done|here"), timeout=30_000
        )
    expect(said).to_have_text(not_yet)  # files that came in meanwhile have not talked it away
    page.locator(".item[data-path='bad.pkl'] [data-do=remove]").click()
    expect(said).not_to_have_text(not_yet)
    assert page.evaluate(WIDER) == [] and complaints(page) == []
    page.locator(".item[data-path='weights.bin'] [data-part=component]").select_option("parameters")
    page.locator(".item[data-path='weights.bin'] [data-part=license]").fill("MIT")
    files = {file["path"]: file for file in commit(page, foundation, empty)}
    assert files["weights.bin"]["size"] == large.stat().st_size
    assert (files["weights.bin"]["component"], files["weights.bin"]["license"]) == ("parameters", "MIT")
    assert (files["README.md"]["component"], files["README.md"]["license"]) == ("model-card", None)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_upload_that_was_cut_goes_on_after_a_reload(
    read: Any, foundation: Any, empty: str, large: Path, language: str
) -> None:
    large.write_bytes(large.read_bytes() + language.encode())  # bytes that are not here yet
    page, parts = read(language, who="operator"), []

    def cut(route: Route) -> None:
        parts.append(route.request.method)
        if len(parts) > 1:  # the first part went through
            route.abort("connectionreset")
        else:
            route.continue_()

    page.goto(f"/hub/asset/{empty}/add")
    page.route(UPLOADS, cut)
    with foundation.cut_off():
        choose(page, large)
        state(page, "weights.bin", "cut")
        page.unroute(UPLOADS)
    page.on("dialog", lambda dialog: dialog.accept())
    with foundation.cut_off():
        page.reload()
    state(page, "weights.bin", "missing")
    expect(page.locator(".item-state")).to_contain_text("8.4 MB")  # one part of 8 MiB
    sent: list[int] = []
    page.on(
        "request",
        lambda asked: sent.append(int(asked.headers.get("upload-offset", -1))) if asked.method == "PATCH" else None,
    )
    choose(page, large)
    state(page, "weights.bin", "done")
    assert sent and min(sent) >= 8_000_000, "what had come was not sent again"
    [file] = commit(page, foundation, empty)
    assert file["size"] == large.stat().st_size


def test_an_upload_goes_on_when_the_server_was_killed(read: Any, foundation: Any, empty: str, large: Path) -> None:
    large.write_bytes(large.read_bytes() + b"killed")
    page, parts = read("en", who="operator"), []

    def kill(route: Route) -> None:
        parts.append(route.request.method)
        if len(parts) == 2:
            foundation.kill()
        route.continue_()

    page.goto(f"/hub/asset/{empty}/add")
    page.route(UPLOADS, kill)
    with foundation.cut_off():
        choose(page, large)
        state(page, "weights.bin", "cut")
        foundation.start()
        page.unroute(UPLOADS)
        state(page, "weights.bin", "done")
    [file] = commit(page, foundation, empty)
    assert file["size"] == large.stat().st_size


@pytest.mark.parametrize("language", ["zh", "en"])
def test_without_scripts_the_form_brings_small_files(
    read: Any, foundation: Any, empty: str, tmp_path: Path, language: str
) -> None:
    (tmp_path / "train.py").write_text(f"# {language}\n", "utf-8")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(print))
    page = read(language, who="operator", javascript=False)
    page.goto(f"/hub/asset/{empty}/add")
    page.locator("#field-files").set_input_files(str(tmp_path / "bad.pkl"))
    page.locator("#field-message").fill("typed once")
    page.locator("form.wide-form button.button-primary").click()
    expect(page.get_by_role("alert")).to_contain_text("hub.pickle")
    expect(page.locator("#field-message")).to_have_value("typed once")
    page.locator("#field-files").set_input_files(str(tmp_path / "train.py"))
    page.locator("#field-folder").fill("src")
    [file] = commit(page, foundation, empty)
    assert (file["path"], file["component"]) == ("src/train.py", "training-code")


def test_a_folder_keeps_its_shape_and_what_is_here_does_not_travel_again(
    read: Any, foundation: Any, empty: str, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "levels.csv").write_text("hour,cm\n0,120\n", "utf-8")
    (folder / "NOTES.txt").write_text("as measured\n", "utf-8")
    page = read("en", who="operator")
    page.goto(f"/hub/asset/{empty}/add")
    page.locator("form.with-script").wait_for()
    page.locator("#field-folder-files").set_input_files(str(folder))
    for path in ("given/data/levels.csv", "given/NOTES.txt"):
        state(page, path, "done")
    page.locator("[data-path='given/NOTES.txt'] [data-do=remove]").click()
    choose(page, folder / "NOTES.txt")
    state(page, "NOTES.txt", "here")
    assert {file["path"] for file in commit(page, foundation, empty)} == {"given/data/levels.csv", "NOTES.txt"}
