"""The report as a reader sees it: opened in Debian's Chromium, wide and on a phone, light and dark."""

import re
from dataclasses import replace

import pytest
from chromium import chromium

from behavior_lib.report import render
from tests.report_example import EMOJI, NINE, RIGHT_TO_LEFT, SCRIPT, example, scores

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(example()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser, report):
    browser.open(report)
    return browser


def tip(page):
    return page.eval("document.getElementById('tip').hidden ? null : document.getElementById('tip').innerText")


def shown_dots(page):
    dots = "Array.from(document.querySelectorAll('#item-map path'))"
    return page.eval(f"{dots}.filter(dot => getComputedStyle(dot).display !== 'none').length")


def test_the_page_opens_without_an_error_and_asks_for_nothing(page, report):
    assert page.errors() == []
    assert page.requests == [report.as_uri()]


def test_the_headings_tell_what_there_is(page):
    assert page.texts("h1") == ["complete_journey"]
    assert page.texts("h2") == [
        "Where the rows went",
        "Events over time",
        "How long sessions are",
        "Training",
        "Model against baselines",
        "Map of the items",
        "Nearest neighbours",
        "3 users, and what is recommended next",
        "Where this comes from",
    ]


def test_the_winner_is_named_first(page):
    (verdict,) = page.texts("#verdict")
    assert verdict.startswith(
        "The model wins on the test split: NDCG@10 0.2271\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0060 over 1,890 users"
    )
    top, fold = page.eval("document.getElementById('verdict').getBoundingClientRect().bottom"), 900
    assert top < fold


def test_tables_have_a_row_for_each_batch_method_and_job(page):
    assert page.count(".ledger tbody tr") == 3
    assert page.count("#metrics-test tbody tr") == 3
    assert page.count("#metrics-validation tbody tr") == 3
    assert page.texts("#metrics-test tbody th") == ["Model best", "User's own most frequent", "Most popular"]
    assert page.texts("#origin .status") == ["succeeded", "failed"]


def test_charts_have_their_shapes_at_their_size(page):
    assert page.count(".columns > span") == 53
    heights = page.eval("Array.from(document.querySelectorAll('.columns > span > span'), e => e.offsetHeight)")
    assert max(heights) > 100
    assert min(heights) >= 1
    assert page.count(".dot") == 10
    assert page.count(".dot.best") == 2
    assert page.count(".moment") == 30


def test_pointing_at_a_column_tells_its_figure(page):
    page.hover(".columns > span:nth-child(10)")
    assert tip(page) == "Week from 27 Feb 2017: 770 events"


def test_pointing_at_an_item_tells_its_name_and_group(page):
    assert page.count("#item-map path") == 11
    page.hover("#item-map path:nth-of-type(1)")
    assert tip(page) == f"{SCRIPT}\nGrocery · 11 events"
    page.hover("#item-map path:nth-of-type(3)")
    assert tip(page) == f"{EMOJI}\nGrocery · 9 events"


def test_touching_an_item_tells_its_name(page):
    x, y = page.place("#item-map path:nth-of-type(2)")
    page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    assert tip(page) == f"{RIGHT_TO_LEFT}\nProduce · 10 events"


def test_the_legend_hides_and_shows_a_group(page):
    assert page.texts(".map-legend button") == ["Grocery 6", "Produce 5"]
    page.click(".map-legend button")
    assert shown_dots(page) == 5
    assert page.eval("document.querySelector('.map-legend button').getAttribute('aria-pressed')") == "false"
    page.click(".map-legend button")
    assert shown_dots(page) == 11


def test_finding_an_item_marks_it(page):
    page.type("#map-find", "ITEM")
    assert page.texts("#map-found") == ["8 items found"]
    assert page.count("#item-map path.found") == 8


def test_zooming_in_and_back_shows_a_part_and_all(page):
    page.click("[data-zoom=in]")
    assert page.eval("document.getElementById('item-map').viewBox.baseVal.width") == 600
    page.click("[data-zoom=all]")
    assert page.eval("document.getElementById('item-map').viewBox.baseVal.width") == 1000


def test_a_hit_is_marked_in_a_users_story(page):
    assert page.texts("#users h3") == ["User <b>1350</b>", "User 2", "User 3"]
    assert page.count("#users article:nth-of-type(1) .hit") == 1
    assert page.texts("#users article:nth-of-type(1) .recommended li") == [
        f"{SCRIPT} Grocery came had before\nOwn past: this item, 10 times, last 7 days before; {EMOJI}, once",
        f"{RIGHT_TO_LEFT} Produce\nWhat follows: {EMOJI}, once",
    ]


def test_pointing_at_a_reason_tells_its_part_of_the_score(page):
    page.hover("#users article:nth-of-type(1) .why span")
    assert tip(page) == "Without it the score is lower by 2.35"


def test_events_that_moved_the_vector_have_bars_and_the_most_moving_are_named(page):
    first = "#users article:nth-of-type(1)"
    movers = [" ".join(text.split()) for text in page.texts(f"{first} .movers li")]
    assert movers[:2] == [f"{SCRIPT}, 24 Nov 2017 0.5", f"{SCRIPT}, 17 Nov 2017 0.25"]
    assert page.count(f"{first} .moment.moved") == 5
    bars = f"Array.from(document.querySelectorAll('{first} .basket .influence'), e => [e.offsetWidth, e.offsetHeight])"
    assert page.eval(bars) == [[30, 7]] * 4
    filled = f"Array.from(document.querySelectorAll('{first} .basket .influence > span'), e => e.offsetWidth)"
    assert page.eval(filled) == [30, 15, 10, 8]
    page.hover(f"{first} .basket .influence")
    assert tip(page) == "Without this event the vector would move by 0.5 (1 \N{MINUS SIGN} cosine)"


def test_on_a_phone_nine_methods_have_room_for_their_names(browser, tmp_path):
    path = tmp_path / "nine.html"
    path.write_text(render(replace(example(), scores=scores(methods=NINE))), encoding="utf-8")
    browser.open(path, **PHONE)
    lines = "e => Math.round((e.clientHeight - 15) / parseFloat(getComputedStyle(e).lineHeight))"
    rows = browser.eval(f"Array.from(document.querySelectorAll('#metrics-test tbody th'), {lines})")
    assert len(rows) == 9
    assert max(rows) <= 3
    assert browser.texts(".swipe") == ["Swipe for 4 more figures."]
    assert browser.eval("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_the_page_is_never_wider_than_the_screen(browser, report, width):
    browser.open(report, width=width)
    assert browser.eval("document.documentElement.scrollWidth") == width


def test_on_a_phone_texts_are_large_enough_and_buttons_can_be_hit(browser, report):
    browser.open(report, **PHONE)
    sizes = browser.eval(
        "Array.from(document.querySelectorAll('body *'), e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
    heights = browser.eval("Array.from(document.querySelectorAll('button'), e => e.offsetHeight)")
    assert min(heights) >= 26


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(browser, report, dark):
    """WCAG 2 asks for a contrast of 4.5."""
    browser.open(report, dark=dark)
    names = ("ink", "faint", "accent", "good", "warn", "bad", "card")
    style = "getComputedStyle(document.documentElement)"
    colours = {name: browser.eval(f"{style}.getPropertyValue('--{name}')") for name in names}
    card = colours.pop("card")
    assert {name: colour for name, colour in colours.items() if contrast(colour, card) < 4.5} == {}
    assert (luminance(card) < 0.1) == dark


def test_on_paper_there_is_no_navigation_and_the_ground_is_white(browser, report):
    browser.open(report, dark=True)
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.eval("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.eval("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip() == "#16202c"


def luminance(colour):
    channels = [int(part, 16) / 255 for part in re.findall("..", colour.strip().removeprefix("#"))]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
