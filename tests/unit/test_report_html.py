"""The page: whole in itself, escaped, and honest about what is not there yet."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from behavior_lib.report import ReportData, data, render
from tests.report_example import CUT, EMOJI, NOW, RIGHT_TO_LEFT, SCRIPT, a_story, example, scores

VOID = {"meta", "br", "input"}


class Outline(HTMLParser):
    """Tags that are left open or closed twice, ids, and addresses that the page would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [str(named[key]) for key in ("href", "src", "srcset", "data") if key in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [str(value) for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, text):
        self.texts.append(text)


@pytest.fixture(scope="module")
def page() -> str:
    return render(example())


def text_of(page: str) -> str:
    return " ".join(" ".join(Outline(page).texts).split())


def test_every_tag_is_closed_and_no_id_is_given_twice(page):
    outline = Outline(page)
    assert (outline.open, outline.wrong) == ([], [])
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_asks_for_nothing(page):
    assert all(link.startswith("#") for link in Outline(page).links)
    assert (
        re.findall(r"https?:|@import|url\(|//[a-z]", page.replace("// the page scrolls", "").replace("// pixels", ""))
        == []
    )


def test_links_lead_to_sections_that_are_there(page):
    outline = Outline(page)
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)


def test_texts_of_the_data_do_not_become_markup(page):
    assert "<script>alert" not in page
    assert "<b>1350" not in page
    assert "<i>rule" not in page
    assert page.count("<script") == 2
    shown = text_of(page)
    for text in (SCRIPT, RIGHT_TO_LEFT, EMOJI, "<b>1350</b>", "<i>rule</i>"):
        assert text in shown


def test_figures_stand_in_the_page_as_people_write_them(page):
    shown = text_of(page)
    for text in (
        "1,469,307 events",
        "2,469 users",
        "155,848 sessions",
        "68,509 items",
        "v3 champion",
        "Events from 1 Jan 2017 to 1 Jan 2018, reported on 2 Jan 2018, 09:30 UTC",
        "Of 1,005 rows read, 905 became events, 60 were duplicates, 30 broke a rule, 10 came too late. Every row is",
        "Test: 1,890 users, first session from 1 Dec 2017",
        "Median 1, longest 14, over 9 sessions.",
        "20 events in 10 sessions before 1 Dec 2017. 1 of 2 recommended items was among the 1 item of the user's next",
        "What the user did next is not known yet.",
        "Newest run of each job",
    ):
        assert text in shown


def test_items_without_a_number_are_among_what_the_user_did_next():
    shown = text_of(render(replace(example(), stories=(replace(a_story(), n_unnamed=2),))))
    assert "1 of 2 recommended items was among the 3 items of the user's next session" in shown
    assert "and 2 more" in shown
    rare = replace(a_story(), next_items=(), n_unnamed=2)
    assert "What came 2 items that have no number" in text_of(render(replace(example(), stories=(rare,))))


def test_a_broken_ledger_is_said_to_be_broken():
    batch = data.Batch("b", NOW, 10, 5, 0, 0, 0)
    assert "The sum does not fit" in text_of(render(replace(example(), batches=(batch,))))


def test_older_batches_are_summed():
    batches = tuple(data.Batch(f"day {day}", NOW.replace(day=day), 10, 10, 0, 0, 0) for day in range(1, 15))
    shown = text_of(render(replace(example(), batches=batches)))
    assert "All batches 140 140" in shown
    assert "4 older batches 40 40" in shown
    assert "day 5 " in shown
    assert "day 4 " not in shown


def test_a_losing_model_is_shown_as_losing():
    page = render(replace(example(), scores=scores(0.1)))
    assert 'class="verdict loses"' in page
    assert "The model does not win on the test split" in text_of(page)


def test_a_refit_is_said_to_be_its_newest_epoch():
    told = example()
    assert "the registered model is the epoch with the best validation figure." in text_of(render(told))
    refit = text_of(render(replace(told, model=replace(told.model, is_refit=True))))
    assert "the registered model is a refit: its newest epoch, which has learned from what validation asks." in refit
    assert "the epoch with the best validation figure" not in refit


def test_before_anything_has_run_every_section_says_so():
    page = render(ReportData("shop", NOW))
    outline, shown = Outline(page), text_of(page)
    assert (outline.open, outline.wrong) == ([], [])
    for text in (
        "No model has been judged yet",
        "No batch has been ingested yet.",
        "There are no events yet.",
        "There are no sessions yet",
        "No model has been trained yet",
        "Nothing has been evaluated yet",
        "There are no item vectors yet",
        "There are no recommendations yet",
    ):
        assert text in shown


def test_a_user_whose_first_event_is_the_newest_is_told():
    alone = data.Session(CUT, None, (data.Item("1", "one", ""),), (None,))
    story = data.UserStory("u", 1, CUT, (alone,), (), None, 0)
    assert "1 event in 1 session before 1 Dec 2017" in text_of(render(replace(example(), stories=(story,))))
    empty = replace(story, n_events=0, sessions=())
    assert "0 events in 0 sessions" in text_of(render(replace(example(), stories=(empty,))))


def test_a_recommendation_says_what_it_rests_on(page):
    shown = text_of(page)
    assert f"Own past: this item, 10 times, last 7 days before ; {EMOJI} , once" in shown
    assert f"What follows: {EMOJI} , once" in shown
    assert 'data-tip="Without it the score is lower by 2.35"' in page
    small = [data.Reason(data.Item(str(n), f"item {n}", ""), part, 1, None) for n, part in enumerate((2.0, 0.21, 0.19))]
    alone = data.Recommendation(data.Item("9", "nine", ""), False, None, "popularity", ())
    given = (replace(alone, path="vectors", reasons=tuple(small)), alone)
    shown = text_of(render(replace(example(), stories=(replace(example().stories[0], recommended=given),))))
    assert "nine Vectors: item 0 , once ; item 1 , once nine Popularity What came" in shown


def test_what_moved_the_vector_most_is_told_and_barred_where_it_is_much():
    items = tuple(data.Item(str(n), f"item {n}", "") for n in range(12))
    sessions = (
        data.Session(CUT - timedelta(days=9), None, items[:2], (0.5, None)),
        data.Session(CUT - timedelta(days=2), None, (*items, items[1]), (*(n / 100 for n in range(12)), 0.25)),
    )
    page = render(replace(example(), stories=(data.UserStory("u", 15, CUT, sessions, (), None, 0),)))
    shown = text_of(page)
    movers = [("item 0 , 22", "0.5"), ("item 1 , 29", "0.25"), ("item 11 , 29", "0.11"), ("item 10 , 29", "0.1")]
    told = " ".join(f"{item} Nov 2017 {amount}" for item, amount in (*movers, ("item 9 , 29", "0.09")))
    assert f"What moved the vector most {told}" in shown
    assert "12 items: item 1 ; item 4 ; item 5 ; item 6 ; item 7 ; item 8 ; item 9 ; item 10 ; item 11 ; and 3" in shown
    widths = re.findall(
        r'aria-label="Without this event the vector would move by ([0-9.]+)[^>]*><span style="width:([^%]+)', page
    )
    newest = [("0.25", "50.0"), *((f"0.0{n}", f"{2.0 * n}") for n in range(5, 10)), ("0.1", "20.0"), ("0.11", "22.0")]
    assert widths == [*newest, ("0.5", "100.0"), *(widths[-5:])]
    assert page.count('class="moment moved"') == 2
    quiet = data.Session(CUT - timedelta(days=9), None, items[:3], (0.004, 0.005, None))
    newest = replace(sessions[1], items=items[:1], influences=(0.5,))
    page = render(replace(example(), stories=(data.UserStory("u", 4, CUT, (quiet, newest), (), None, 0),)))
    shown = text_of(page)
    assert "What moved the vector most item 0 , 29 Nov 2017 0.5 item 1 , 22 Nov 2017 0.005 Where" in shown
    assert page.count('class="moment moved"') == 2


def test_where_nothing_is_known_of_the_vector_nothing_is_told_of_it():
    (story, *_), unknown = example().stories, (None, None)
    quiet = replace(story, sessions=tuple(replace(each, influences=unknown) for each in story.sessions))
    page = render(replace(example(), stories=(quiet,)))
    assert "What moved the vector most" not in text_of(page)
    assert 'class="influence"' not in page
    assert 'class="moment moved"' not in page


def test_the_same_data_give_the_same_page(page):
    assert render(example()) == page
