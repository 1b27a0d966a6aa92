"""The console without scripts: forms for every verb, what was typed comes back, and nothing from elsewhere acts."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import update

from gongqi.doors.web import forms
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.config import Settings
from gongqi.kernel.verbs import Caller
from gongqi.members import sessions
from gongqi.members.models import Party
from tests.doors.conftest import Forms

CREATE = "/do/guild/note/create"


def filled(signed_in, town, **more):
    return {"org": town.org, "text": "typed", "public": "true"} | more


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_verb_has_a_form_in_both_languages(signed_in, house, lang: str) -> None:
    for name, verb in house.verbs.items():
        page = signed_in.get(f"/do/{name.replace(':', '/')}?lang={lang}")
        assert page.status_code == 200, name
        assert house.words.verbs[name].label[lang] in page.text
        for field in verb.input.model_fields:
            assert f'name="{field}' in page.text, (name, field)
        assert not re.search(r"\bfield\.[a-z_]+", page.text), name


def test_a_form_acts_once_and_leads_to_what_it_made(signed_in, town, evidence) -> None:
    form, before = signed_in.form(CREATE), len(evidence)
    first, again = (signed_in.send(form, **filled(signed_in, town)) for _ in range(2))
    assert (first.status_code, again.status_code) == (303, 303)
    assert first.headers["location"] == again.headers["location"]
    assert first.headers["location"].startswith("/guild/note/gnote_")
    assert len(evidence) == before + 1
    assert "typed editable" in signed_in.get(first.headers["location"]).text


def test_every_kind_of_field_arrives_as_what_it_is(signed_in, operator, town) -> None:
    typed = {
        "number": "7", "public": None, "tags": " one \r\n\r\n two", "at": "2026-02-03T04:05", "extra": '{"a": [1, 2]}',
        "schedule.0.audience": "members", "schedule.0.opens_at": "2026-05-06T07:08",
    }  # fmt: skip
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town) | typed)
    assert answer.status_code == 303, answer.text
    note = operator.get(f"/api/v1/guild/note/{answer.headers['location'].rpartition('/')[2]}").json()
    assert (note["number"], note["public"], note["at"]) == (7, False, "2026-02-03T04:05:00Z")
    assert note["more"] == {
        "tags": ["one", "two"], "extra": {"a": [1, 2]}, "terms": None,
        "schedule": [{"audience": "members", "opens_at": "2026-05-06T07:08:00Z"}],
    }  # fmt: skip


def test_rows_grow_by_a_button_and_empty_rows_are_nothing(signed_in, operator, town) -> None:
    form = signed_in.form(CREATE)
    page = signed_in.send(form, **filled(signed_in, town), **{"schedule.0.audience": "members", "more": "schedule"})
    assert page.status_code == 200
    assert 'name="schedule.1.audience"' in page.text
    assert re.search(r'<option value="members" selected', page.text)
    page = signed_in.send(form, **filled(signed_in, town), **{"schedule.2.audience": "", "more": "schedule"})
    assert 'value="schedule" formnovalidate' not in page.text, "three rows are the most that the verb takes"
    answer = signed_in.send(form, **filled(signed_in, town), **{"schedule.1.audience": "public"})
    note = operator.get(f"/api/v1/guild/note/{answer.headers['location'].rpartition('/')[2]}").json()
    assert note["more"]["schedule"] == [{"audience": "public", "opens_at": None}]


def test_a_structure_within_a_structure_is_drawn_and_read_back(signed_in, operator, town) -> None:
    form = signed_in.form(CREATE)
    assert {"terms.days", "terms.binding", "terms.weights.0.name", "terms.weights.0.shares"} <= {
        each["name"] for each in form.inputs
    }
    typed = {
        "terms.days": "30",
        "terms.binding": "true",
        "terms.weights.0.name": "a",
        "terms.weights.0.shares": "1\n2.5",
    }
    page = signed_in.send(form, **filled(signed_in, town), **typed, more="terms.weights")
    assert page.status_code == 200
    again = Forms(page.text).forms[-1]
    assert again.fields["terms.weights.0.shares"] == "1\n2.5"
    begins = [each["name"] for each in again.inputs if "autofocus" in each]
    assert begins == ["terms.weights.1.name"], "the page begins at the new row"
    answer = signed_in.send(again, **{"terms.weights.1.name": "b"})
    note = operator.get(f"/api/v1/guild/note/{answer.headers['location'].rpartition('/')[2]}").json()
    weights = [{"name": "a", "shares": [1.0, 2.5]}, {"name": "b", "shares": []}]
    assert note["more"]["terms"] == {"days": 30, "binding": True, "weights": weights}


def test_what_is_wrong_deep_within_a_structure_is_said_there(signed_in, town) -> None:
    typed = {"terms.days": "0", "terms.weights.0.name": "x" * 41}
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town), **typed)
    assert answer.status_code == 422
    assert 'id="field-terms.days-wrong"' in answer.text
    assert answer.text.count('aria-invalid="true"') == 1


def test_a_group_that_nobody_filled_in_is_absent(signed_in, operator, town) -> None:
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town))
    note = operator.get(f"/api/v1/guild/note/{answer.headers['location'].rpartition('/')[2]}").json()
    assert note["more"]["terms"] is None


def test_no_form_that_comes_back_makes_a_large_one(signed_in, town) -> None:
    typed = {f"terms.weights.{number}.name": "" for number in range(500, 999)} | {"terms.weights.rows": "999"}
    page = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town), **typed, more="terms.weights")
    assert page.text.count(' name="terms.weights.') <= 2 * forms.MAX_ROWS


@pytest.mark.parametrize(("lang", "why"), [("zh", "最多 100 个字符"), ("en", "at most 100 characters are allowed")])
def test_bad_input_comes_back_as_typed_with_the_reason_beside_the_field(signed_in, town, lang: str, why: str) -> None:
    signed_in.get(f"/?lang={lang}")
    typed = filled(signed_in, town, text="x" * 101, number="12", tags="one\ntwo", public=None)
    answer = signed_in.send(signed_in.form(CREATE), **typed)
    assert answer.status_code == 422
    assert f'<p class="wrong" id="field-text-wrong">{why}</p>' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "x" * 101 in answer.text and 'value="12"' in answer.text and "one\ntwo" in answer.text
    assert not re.search(r'name="public"[^>]* checked', answer.text), "a box unticked stays unticked"


def test_a_form_with_an_error_can_be_mended_and_sent(signed_in, town) -> None:
    form = signed_in.form(CREATE)
    assert signed_in.send(form, **filled(signed_in, town, text="")).status_code == 422
    assert signed_in.send(form, **filled(signed_in, town)).status_code == 303


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ({"extra": "{"}, "extra"),
        ({"extra": '{"a":1,"a":2}'}, "extra"),
        ({"number": "9" * 5000}, "number"),
        ({"number": "1.5"}, "number"),
        ({"text": "a\x00b"}, "body"),
        ({"at": "yesterday"}, "at"),
        ({"schedule.0.audience": "nobody"}, "schedule.0.audience"),
        ({"tags": "\n".join("abcdef")}, "tags"),
    ],
)
def test_no_form_breaks_the_house(signed_in, town, typed: dict[str, str], where: str) -> None:
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town) | typed)
    assert answer.status_code == 422
    assert "kernel.input-invalid" in answer.text
    assert f"{where}:" in answer.text


def test_a_moment_that_is_not_right_leaves_the_form_as_it_was(signed_in, operator, town) -> None:
    note = town.note(operator)["id"]
    answer = signed_in.send(signed_in.form("/do/guild/note/wait"), note=note)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert note in answer.text


def test_our_own_bug_is_a_page_with_a_number_to_quote(signed_in, operator, town) -> None:
    answer = signed_in.send(signed_in.form("/do/guild/note/break"), note=town.note(operator)["id"])
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "a secret" not in answer.text


def test_too_large_a_form_is_refused(signed_in, town) -> None:
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town, text="x" * 2_000_000))
    assert answer.status_code == 413


def test_too_many_fields_are_refused(signed_in) -> None:
    answer = signed_in.send(signed_in.form(CREATE), **{f"f{number}": "" for number in range(1100)})
    assert (answer.status_code, "web.request-malformed" in answer.text) == (400, True)


# ---- whose form it is --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong", "错误", None])
def test_a_form_with_a_false_token_does_nothing(signed_in, town, evidence, token: str | None) -> None:
    before = len(evidence)
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town, csrf=token))
    assert (answer.status_code, len(evidence)) == (403, before)
    assert "web.form-expired" in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_sent_from_another_site_does_nothing(signed_in, town, evidence, site: str) -> None:
    before = len(evidence)
    answer = signed_in.send(signed_in.form(CREATE), headers={"sec-fetch-site": site}, **filled(signed_in, town))
    assert (answer.status_code, len(evidence)) == (403, before)


def test_a_form_without_the_cookie_does_nothing(signed_in, town, evidence) -> None:
    form, before = signed_in.form(CREATE), len(evidence)
    signed_in.client.cookies.clear()
    assert signed_in.send(form, **filled(signed_in, town)).status_code == 403
    assert len(evidence) == before


def test_one_readers_token_is_no_use_to_another(signed_in, new_browser, town, operator) -> None:
    form, other = signed_in.form(CREATE), new_browser()
    other.get("/sign-in")
    assert other.send(form, **filled(signed_in, town)).status_code == 403


@pytest.mark.parametrize(
    "back", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:x"]
)
def test_no_form_leads_to_another_site(signed_in, town, back: str) -> None:
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town, back=back))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_form_leads_back_to_where_it_was_opened(signed_in, town) -> None:
    form = signed_in.form(CREATE + "?back=/guild?tag=a")
    assert form.fields["back"] == "/guild?tag=a"
    assert signed_in.send(form, **filled(signed_in, town)).headers["location"] == "/guild?tag=a"


def test_a_link_may_fill_in_a_form(signed_in) -> None:
    fields = signed_in.form(CREATE + "?text=given&number=3").fields
    assert (fields["text"], fields["number"], fields["org"]) == ("given", "3", "")


def test_a_stranger_is_shown_the_way_in_and_a_member_without_the_right_is_told(browser) -> None:
    page = browser.get(CREATE)
    assert page.status_code == 401
    assert f"/sign-in?back={CREATE}" in page.text


def test_a_form_nobody_declared_is_not_found(signed_in) -> None:
    assert signed_in.get("/do/guild/note/none").status_code == 404


def test_a_secret_is_shown_once_and_never_again(signed_in, operator, town) -> None:
    form = signed_in.form("/do/guild/note/reveal")
    note = town.note(operator)["id"]
    first, again = (signed_in.send(form, note=note) for _ in range(2))
    secret = re.search(r"<code>(gnote_\w+)</code>", first.text)
    assert first.status_code == 200 and secret
    assert again.status_code == 409 and secret[1] not in again.text


def test_a_password_is_neither_sent_back_nor_remembered_by_a_key(signed_in, town) -> None:
    form = signed_in.form("/do/members/password/set")
    short = signed_in.send(form, password="hunter2")
    assert short.status_code == 422 and "hunter2" not in short.text
    for password in ("correct horse battery staple", "another correct horse battery"):
        assert signed_in.send(form, password=password).status_code == 303
    again = {"handle": "operator", "password": "another correct horse battery"}
    assert sessions.sign_in(town.kernel, Caller(ANONYMOUS), **again)


# ---- pages -------------------------------------------------------------------------------------------


def test_a_page_of_an_unknown_id_says_so(signed_in) -> None:
    for path in ("/guild/note/gnote_none", "/go/gnote_none", "/go/none_x"):
        page = signed_in.get(path)
        while page.status_code == 303:
            page = signed_in.get(page.headers["location"])
        assert (page.status_code, "access.not-found" in page.text) == (404, True), path


def test_an_id_leads_to_its_page(browser) -> None:
    assert browser.get("/go/gnote_1").headers["location"] == "/guild/note/gnote_1"


def test_a_button_is_shown_to_who_may_press_it(signed_in, new_browser, operator, town) -> None:
    town.note(operator, "public")
    assert "public editable" in signed_in.get("/guild").text
    assert "editable" not in new_browser().get("/guild").text


@pytest.mark.parametrize(
    ("path", "header", "tag"),
    [("/", "zh", "zh-CN"), ("/", "en", "en"), ("/?lang=zh", "en", "zh-CN"), ("/?lang=xx", "zh", "zh-CN")],
)
def test_the_page_speaks_the_readers_language(browser, path: str, header: str, tag: str) -> None:
    page = browser.get(path, **{"accept-language": header})
    assert page.headers["content-language"] == tag
    assert f'<html lang="{tag}"' in page.text


def test_the_chosen_language_stays_chosen(browser) -> None:
    chosen = browser.get("/?lang=zh")
    assert "HttpOnly" in chosen.headers["set-cookie"] and "SameSite=lax" in chosen.headers["set-cookie"]
    assert browser.get("/guild", **{"accept-language": "en"}).headers["content-language"] == "zh-CN"


def test_switching_the_language_keeps_the_question(browser) -> None:
    page = browser.get("/guild?tag=a%26b&lang=en").text
    assert 'href="/guild?tag=a%26b&amp;lang=zh"' in page
    assert "lang=en&amp;lang" not in page


def test_no_page_has_anything_inline(signed_in) -> None:
    for path in ("/", "/guild", CREATE, "/sign-in", "/nowhere"):
        page = signed_in.get(path).text
        assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]*\ssrc=)", page), path


def test_what_is_typed_never_becomes_markup(signed_in, town) -> None:
    evil = "<script>alert(1)</script>"
    answer = signed_in.send(signed_in.form(CREATE), **filled(signed_in, town, text=evil))
    assert evil not in signed_in.get(answer.headers["location"]).text


def test_the_home_page_counts(signed_in, operator, town) -> None:
    town.note(operator)
    assert 'data-live="guild.notes"' in signed_in.get("/").text


def test_the_page_that_says_the_database_is_gone_still_comes(town, browser, monkeypatch) -> None:
    signed = browser.sign_in(town.start.link)
    assert signed.status_code == 303
    town.kernel.db.reader.dispose()
    monkeypatch.setattr(town.kernel.db.reader, "connect", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    page = browser.get("/guild")
    assert page.status_code == 500
    assert "kernel.broken" in page.text


def test_who_acts_for_one_organisation_chooses_it_by_name(new_browser, town) -> None:
    with town.client(town.start.token) as operator:
        made = operator.post(
            "/api/v1/members/organisation/create", json={"handle": "weavers", "name": "Weavers <of> the north"}
        ).json()
        person = operator.post(
            "/api/v1/members/person/create",
            json={"handle": "weaver", "name": "Weaver", "org": made["id"], "role": "owner"},
        ).json()
        link = operator.post("/api/v1/members/signin/link", json={"party": person["id"]}).json()["link"]
    reader = new_browser()
    assert reader.sign_in(link).status_code == 303
    page = reader.get("/do/members/agent/create").text
    assert f'<option value="{made["id"]}" selected>Weavers &lt;of&gt; the north</option>' in page


@pytest.mark.parametrize(
    ("environment", "zh", "en"),
    [
        ({}, "公器基金会", "Gongqi Foundation"),
        ({"GONGQI_FOUNDATION": "Weavers' Hall"}, "Weavers' Hall", "Weavers' Hall"),
        ({"GONGQI_FOUNDATION": "Weavers' Hall", "GONGQI_FOUNDATION_ZH": "织匠会馆"}, "织匠会馆", "Weavers' Hall"),
    ],
)
def test_the_foundation_is_named_in_the_readers_language(environment: dict[str, str], zh: str, en: str) -> None:
    settings = Settings.from_environment(environment)
    assert (settings.foundation_in("zh"), settings.foundation_in("en")) == (zh, en)


def test_a_foundation_that_has_renamed_its_organisation_is_shown_under_that_name(town, signed_in) -> None:
    assert "公器基金会" in signed_in.get("/members?lang=zh").text
    with town.kernel.db.writer.begin() as connection:
        connection.execute(update(Party).where(Party.handle == "foundation").values(name="Renamed"))
    page = signed_in.get("/members?lang=zh").text
    assert "Renamed" in page and ">公器基金会<" not in page
