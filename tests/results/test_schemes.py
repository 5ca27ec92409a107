"""Pictures on light and dark pages. Oracles: WCAG 2.1's contrast by hand, an XML parser."""

import re
from xml.etree import ElementTree

import pytest

from results.report.html import unbroken
from results.report.schemes import DARK_INK, DARK_PAPER, LEAST_CONTRAST, contrast, in_both_schemes, on_dark

pytest.importorskip("matplotlib")


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the usual example of the least grey


def test_every_colour_of_a_method_stands_out_on_dark_paper() -> None:
    from results.figures.drawing.looks import GREY, LOOKS, dark

    texts = ["#" + "".join(f"{round(255 * part):02x}" for part in dark(look.color)) for look in LOOKS]
    for colour in (*(look.color for look in LOOKS), *texts, GREY):
        assert contrast(on_dark(colour), DARK_PAPER) >= LEAST_CONTRAST, colour
    assert (on_dark("#000000"), on_dark("#ffffff")) == (DARK_INK, DARK_PAPER)


def test_a_picture_keeps_its_colours_where_the_page_is_light() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg"><path style="fill: #0072B2; stroke: none"/><path id="#000000"/></svg>'
    )
    both = in_both_schemes(svg)
    ElementTree.fromstring(both)
    sheet, rest = re.search("<style>(.*)</style>", both)[1], re.sub("<style>.*</style>", "", both)  # type: ignore[index]
    assert rest.replace("var(--c0072b2, #0072B2)", "#0072B2") == svg
    assert "prefers-color-scheme: dark" in sheet
    assert f"--c0072b2: {on_dark('#0072b2')};" in sheet


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("harness run --seeds 0, --preset lite -v", ["--seeds 0,", "--preset lite"]),
        ("--configs all shows all.", ["--configs all"]),
        ("leave-one-out, a - b -- c", []),
        ("give --remove; a <b> --dry-run", ["--remove", "--dry-run"]),
    ],
)
def test_an_option_and_its_value_stay_together(text: str, kept: list[str]) -> None:
    html = unbroken(text)
    assert re.findall('<span class="option">(.*?)</span>', html) == kept
    assert re.sub("</?span[^>]*>", "", html) == text.replace("<", "&lt;").replace(">", "&gt;")
