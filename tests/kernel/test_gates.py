"""Answers join: any deny wins, duties add up; and a house that does not fit together does not stand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gongqi.kernel.access import Policy
from gongqi.kernel.events import Handler
from gongqi.kernel.flows import Flow, Schedule
from gongqi.kernel.gates import Answer, Answerer, Citation, Gate


@dataclass(frozen=True, slots=True)
class Question:
    licence: str


GATE = Gate("village:note:publish", Question)
LAW = Citation("Act", "§ 1", "statute", "2020-01-01", "https://example.org/act")


def licence(_ctx, question):
    return [Answer("allow" if question.licence == "MIT" else "deny", "licence.known", {"id": question.licence}, (LAW,))]


def board(_ctx, _question):
    return [Answer("allow", "board.approved"), Answer("require", "board.report-yearly", evidence="ev_1")]


@pytest.fixture
def ask(build, village):
    def ask(licence_id: str, *answerers: Answerer):
        kernel = build(village.house(gates=(GATE,), answerers=answerers), record=village.witness)
        return kernel.look(lambda ctx: ctx.ask(GATE, Question(licence_id)))

    return ask


def test_all_must_allow_and_every_duty_stays(ask):
    verdict = ask("MIT", Answerer(GATE, "law", licence), Answerer(GATE, "board", board))
    assert verdict.allowed
    assert [(source, duty.reason) for source, duty in verdict.duties] == [("board", "board.report-yearly")]


def test_one_deny_is_enough_and_is_named_with_its_source(ask):
    verdict = ask("Secret", Answerer(GATE, "board", board), Answerer(GATE, "law", licence))
    assert not verdict.allowed
    assert [(source, answer.params["id"]) for source, answer in verdict.denials] == [("law", "Secret")]


def test_a_verdict_is_told_as_json_with_its_citations(ask):
    told = ask("MIT", Answerer(GATE, "law", licence), Answerer(GATE, "board", board)).as_json()
    assert told["allowed"] is True
    assert told["answers"][0]["cites"] == [
        {
            "source": "Act",
            "article": "§ 1",
            "authority": "statute",
            "date": "2020-01-01",
            "url": "https://example.org/act",
        }
    ]
    assert [answer["decision"] for answer in told["answers"]] == ["allow", "allow", "require"]
    assert told["answers"][2]["evidence"] == "ev_1"


def test_a_gate_that_nobody_answers_stands_open(ask):
    assert ask("Secret").allowed


def test_a_misspelt_decision_is_an_error_and_never_an_allow():
    with pytest.raises(ValueError, match="denied"):
        Answer("denied", "x")  # type: ignore[arg-type]


def flow(_run):
    return None


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        (lambda v: {"answerers": (Answerer(GATE, "law", licence),)}, "answered but not declared"),
        (lambda v: {"gates": (GATE, GATE)}, "given twice"),
        (lambda v: {"gates": (GATE,), "answerers": (Answerer(GATE, "law", licence),) * 2}, "law is given twice"),
        (lambda v: {"handlers": (Handler(v.NoteEdited, "copy", flow),) * 2}, "copy is given twice"),
        (lambda v: {"flows": (Flow("f", flow), Flow("f", flow))}, "given twice"),
        (lambda v: {"flows": (Flow("kernel.deliver", flow),)}, "given twice"),
        (lambda v: {"schedules": (Schedule("f", 60),)}, "scheduled but not defined"),
    ],
)
def test_a_house_that_does_not_fit_is_refused_by_name(village, parts, complaint):
    with pytest.raises(ValueError, match=complaint):
        village.house(**parts(village))


def test_a_verb_without_words_a_wrong_name_or_two_policies_are_refused(village):
    from gongqi.kernel.access import Vocabulary
    from gongqi.kernel.room import House, Room
    from gongqi.kernel.verbs import verb

    empty = village.folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="has no words"):
        House.build([Room("r", empty, verbs=(village.create,))], Vocabulary({}))
    with pytest.raises(ValueError, match="not room:noun:verb"):
        House.build([Room("r", empty, verbs=(verb("create", evidence=None)(village.create.run),))], Vocabulary({}))
    twice = Policy(village.Note, "x:y:z", {})
    with pytest.raises(ValueError, match="given twice"):
        House.build([Room("r", empty, policies=(twice, twice))], Vocabulary({}))
