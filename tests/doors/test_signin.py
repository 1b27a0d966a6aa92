"""Coming in to the console, and going out of it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from gongqi.doors.web import callers
from gongqi.members import rules, service

PASSWORD = "a sentence nobody guesses"


@pytest.fixture
def with_password(signed_in, town, new_browser):
    """A browser of nobody, while the operator has a password."""
    assert signed_in.send(signed_in.form("/do/members/password/set"), password=PASSWORD).status_code == 303
    return new_browser()


def path_of(link: str) -> str:
    return re.sub(r"^https?://[^/]+", "", link)


def test_looking_at_a_link_does_not_use_it_up(browser, town) -> None:
    path = path_of(town.start.link)
    for _ in range(3):
        assert browser.get(path).status_code == 200
        assert browser.client.head(path).status_code == 200
    assert browser.sign_in(town.start.link).headers["location"] == "/"
    assert "Operator" in browser.get("/").text


def test_a_link_works_once(browser, new_browser, town) -> None:
    other = new_browser()
    opened = other.form(path_of(town.start.link))
    assert browser.sign_in(town.start.link).status_code == 303
    answer = other.send(opened)
    assert answer.status_code == 410
    assert 'name="password"' in answer.text, "the other way in, and no button that cannot work"
    assert "members.link-invalid" in answer.text
    assert callers.SESSION_COOKIE not in other.client.cookies


def test_a_right_password_opens_and_a_wrong_one_says_nothing_more(with_password) -> None:
    form = with_password.form("/sign-in")
    wrong = with_password.send(form, handle="operator", password="wrong wrong wrong wrong")
    nobody = with_password.send(form, handle="nobody", password="wrong wrong wrong wrong")
    assert wrong.status_code == nobody.status_code
    for answer in (wrong, nobody):
        assert "members.credentials-wrong" in answer.text
        assert "wrong wrong" not in answer.text
    assert 'value="operator"' in wrong.text
    assert with_password.send(form, handle="operator", password=PASSWORD).status_code == 303


def test_guessing_is_slowed_down_and_told_when_to_come_back(with_password) -> None:
    form = with_password.form("/sign-in")
    for _ in range(rules.ATTEMPT_LIMITS["pair"] + 1):
        answer = with_password.send(form, handle="operator", password="wrong wrong wrong wrong")
    assert "members.too-many-attempts" in answer.text
    assert answer.status_code in (429, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert with_password.send(form, handle="operator", password=PASSWORD).status_code == answer.status_code


def test_the_cookie_is_for_the_server_alone(browser, town) -> None:
    cookie = browser.sign_in(town.start.link).headers.get_list("set-cookie")
    session = next(each for each in cookie if each.startswith(callers.SESSION_COOKIE))
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={callers.SESSION_SECONDS}"):
        assert attribute in session
    assert "Secure" not in session, "plain HTTP on this machine"
    assert "Domain" not in session
    assert timedelta(seconds=callers.SESSION_SECONDS) == rules.SESSION_LIFE


def test_over_tls_the_cookie_never_travels_in_the_clear(browser, town) -> None:
    browser.client.base_url = "https://127.0.0.1:8420"
    cookies = browser.sign_in(town.start.link).headers.get_list("set-cookie")
    assert all("Secure" in each for each in cookies)


def test_signing_out_ends_the_session_at_once(signed_in) -> None:
    secret = signed_in.client.cookies[callers.SESSION_COOKIE]
    form = signed_in.form("/", "/sign-out")
    assert signed_in.send(form).headers["location"] == "/"
    assert callers.SESSION_COOKIE not in signed_in.client.cookies
    signed_in.client.cookies.set(callers.SESSION_COOKIE, secret)
    assert "/sign-out" not in signed_in.get("/").text, "who kept the cookie is nobody now"


def test_another_site_cannot_sign_anyone_out_or_in(signed_in, new_browser, town) -> None:
    form = signed_in.form("/", "/sign-out")
    assert signed_in.send(form, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert signed_in.send(form, csrf="false").status_code == 403
    assert "/sign-out" in signed_in.get("/").text
    other = new_browser()
    form = other.form("/sign-in")
    answer = other.send(form, headers={"sec-fetch-site": "cross-site"}, handle="operator", password=PASSWORD)
    assert answer.status_code == 403


def test_a_form_of_signing_in_belongs_to_the_browser_that_asked_for_it(browser, new_browser) -> None:
    form, other = browser.form("/sign-in"), new_browser()
    other.get("/sign-in")
    assert other.send(form, handle="operator", password=PASSWORD).status_code == 403


@pytest.mark.parametrize(
    ("back", "leads"),
    [
        ("/guild?tag=a", "/guild?tag=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_back_only_within_this_site(with_password, back: str, leads: str) -> None:
    form = with_password.form(f"/sign-in?back={back}")
    answer = with_password.send(form, handle="operator", password=PASSWORD, **({"back": back} if back else {}))
    assert (answer.status_code, answer.headers["location"]) == (303, leads)


def test_a_session_ended_elsewhere_is_nobody_and_no_error(signed_in, town, stranger) -> None:
    secret = signed_in.client.cookies[callers.SESSION_COOKIE]
    session = town.kernel.look(lambda ctx: service.actor_for_session(ctx, secret)).session
    as_session = {"authorization": f"Bearer {secret}"}
    assert (
        stranger.post("/api/v1/members/session/end", json={"session": session}, headers=as_session).status_code == 200
    )
    page = signed_in.get("/guild")
    assert (page.status_code, "/sign-out" in page.text) == (200, False)
    assert stranger.get("/api/v1/guild/note", headers=as_session).status_code == 401


def test_a_session_may_speak_as_a_bearer(signed_in, stranger, town) -> None:
    secret = signed_in.client.cookies[callers.SESSION_COOKIE]
    me = stranger.get("/api/v1/members/me/show", headers={"authorization": f"Bearer {secret}"})
    assert me.status_code == 200, me.text


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_link_that_no_longer_works_says_so_and_offers_the_other_way_in(browser, new_browser, town, lang) -> None:
    path = path_of(town.start.link)
    browser.sign_in(town.start.link)
    for spent in (path, "/sign-in/gql_" + "x" * 40, "/sign-in/" + "x" * 5000):
        page = new_browser().get(f"{spent}?lang={lang}")
        assert (page.status_code, "members.link-invalid" in page.text) == (410, True)
        assert 'name="password"' in page.text
        assert f'action="{spent}' not in page.text, "no button that cannot work"


def test_too_large_a_sign_in_is_refused(browser) -> None:
    assert browser.send(browser.form("/sign-in"), handle="x" * 20_000).status_code == 413
