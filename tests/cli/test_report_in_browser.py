"""The report in a real browser. Oracles: what the browser lays out and computes, Python's own sorting."""

import io
import os
from functools import cache

import pytest
from browser import browser, opened_page
from PIL import Image  # which matplotlib needs
from report_runs import write_report_runs

from harness.cli import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with every section that made-up runs can give."""
    folder = tmp_path_factory.mktemp("report")
    write_report_runs(folder / "runs")
    out = folder / "report.html"
    places = ["--runs-dir", str(folder / "runs"), "--cache-dir", str(folder / "cache")]
    with pytest.raises(SystemExit) as ended:
        main(["report", "--dataset", "scientific2018", "--out", str(out), *places])
    assert not ended.value.code
    return out


@pytest.fixture(scope="module")
def still_page(chromium, report):
    """`still_page(width, scheme)`: one page for all tests that only look at it, and what it did so far."""
    return cache(lambda width, scheme: opened_page(chromium, report, width=width, scheme=scheme))


def first_column(table, column=0):
    return table.locator(f"tbody tr:not(.small) > :nth-child({column + 1})").all_inner_texts()


def test_it_asks_for_nothing_and_complains_of_nothing(still_page, report):
    page, heard = still_page(1280, "light")
    page.wait_for_load_state("networkidle")
    assert [url for url in heard.requests if not url.startswith("data:")] == [report.resolve().as_uri()]
    assert heard.complaints == []
    shown = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 100)")
    assert shown
    assert all(shown)


def test_a_heading_sorts_both_ways_and_says_so(chromium, report):
    page, heard = opened_page(chromium, report, width=1280)
    table = page.locator("#leaderboard table")
    in_order = first_column(table)
    heading = table.locator("thead th").nth(4)
    values = [float(v) for v in table.locator("tbody td:nth-child(5)").evaluate_all("a => a.map(c => c.dataset.value)")]
    by_value = [label for _, label in sorted(zip(values, in_order, strict=True), key=lambda pair: -pair[0])]
    assert heading.get_attribute("aria-sort") == "none"
    heading.get_by_role("button").click()
    assert (heading.get_attribute("aria-sort"), first_column(table)) == ("descending", by_value)
    heading.get_by_role("button").click()
    assert (heading.get_attribute("aria-sort"), first_column(table)) == ("ascending", by_value[::-1])
    assert table.locator("tfoot th").inner_text() == "Improvement"
    name = table.locator("thead th").first
    name.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert first_column(table) == sorted(in_order, key=str.casefold)
    assert (heading.get_attribute("aria-sort"), name.get_attribute("aria-sort")) == ("none", "ascending")
    assert heard.complaints == []


def test_lines_below_a_row_move_with_it_and_unknown_values_stay_last(chromium, report):
    page, _ = opened_page(chromium, report, width=1280)
    table = page.locator("#published-numbers table").first
    below = {body.split("\t")[0]: body for body in table.locator("tbody").all_inner_texts()}
    table.locator("thead button").nth(1).click()
    assert {body.split("\t")[0]: body for body in table.locator("tbody").all_inner_texts()} == below
    cost = page.locator("#cost table")
    place = cost.locator("thead th").all_inner_texts().index("tokenizer")
    for _ in range(2):
        cost.locator("thead button").nth(place).click()
        assert first_column(cost, place)[-1] == "–"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_no_part_of_it_is_wider_than_the_window(chromium, report, width, scheme, tmp_path):
    page, heard = opened_page(chromium, report, width=width, scheme=scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    too_wide = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && "
    too_wide += f"e.getBoundingClientRect().right > {width}).map(e => e.outerHTML.slice(0, 99))"
    assert page.evaluate(too_wide) == []
    picture = page.screenshot(path=os.fspath(tmp_path / "page.jpg"), type="jpeg", full_page=True)
    assert len(picture) > 10_000
    assert heard.complaints == []


def test_wide_tables_fit_a_wide_window_and_scroll_in_a_narrow_one(chromium, report):
    hidden = "[...document.querySelectorAll('.scroll:has(> table)')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    page, _ = opened_page(chromium, report, width=1280)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate(f"{hidden}.map(e => e.innerText)") == []
    page, _ = opened_page(chromium, report, width=390)
    place = "#cost .scroll:has(> table)"
    page.evaluate(f"document.querySelector('{place}').scrollLeft = 1e6")
    last = page.locator(f"{place} thead th").last.bounding_box()
    assert 0 < last["x"] < last["x"] + last["width"] <= 390  # what is cut off can be had


def test_no_option_is_broken_across_lines(still_page):
    page, _ = still_page(1280, "light")
    options = page.locator("#reproduction .option")
    assert "--preset lite" in options.all_inner_texts()
    heights = options.evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
    assert max(heights) < 1.5 * min(heights)


def test_figures_follow_the_scheme(still_page):
    grounds = {}
    for scheme in ("light", "dark"):
        page, _ = still_page(1280, scheme)
        shot = Image.open(io.BytesIO(page.locator(".picture img").first.screenshot())).convert("L")
        grounds[scheme] = shot.getpixel((12, 12)), *shot.getextrema()
    assert grounds["light"][0] == 255
    assert grounds["light"][1] < 40  # black text
    assert grounds["dark"][0] < 40
    assert grounds["dark"][2] > 200  # bright text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(still_page, scheme):
    """WCAG 2.1's contrast ratio, computed from its definition, is at least 4.5 for every text colour (level AA)."""
    page, _ = still_page(1280, scheme)
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    colours = {name: page.evaluate(f"{style}('--{name}')") for name in ("ink", "dim", "link", "paper", "box")}
    assert (luminance(colours["paper"]) > 0.5) == (scheme == "light")
    for text in ("ink", "dim", "link"):
        for ground in ("paper", "box"):
            dark, light = sorted([luminance(colours[text]), luminance(colours[ground])])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def luminance(colour):
    parts = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_on_paper_nothing_is_cut_and_nothing_looks_like_a_button(chromium, report):
    page, _ = opened_page(chromium, report, width=700, scheme="dark")  # A4 less its margins
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    cut = (
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
    )
    assert page.evaluate(cut) == []
    marks = "[...document.querySelectorAll('th button')].map(e => getComputedStyle(e, '::after').display)"
    assert set(page.evaluate(marks)) == {"none"}
    assert page.locator(".files").first.is_hidden()
    folded = page.locator("details").first.locator("table, img").first
    assert folded.bounding_box()["height"] > 50
    assert page.pdf(format="A4").startswith(b"%PDF")
