"""A picture that follows the reader's colour scheme: one SVG, whose colours have a second value for dark grounds."""

from __future__ import annotations

import colorsys
import re

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#15181c"  # as in page.css
DARK_INK = "#e4e7eb"
LEAST_CONTRAST = 4.5  # of a colour on dark paper, WCAG 2.1's level AA for text
GREYS = 0.12  # colours of less saturation have no hue to keep
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def in_both_schemes(svg: str) -> str:
    """The SVG with each of its colours as a variable; where the reader prefers dark pages, with that on dark paper.

    What says no colour is black, as text is. On paper and where no scheme is preferred it looks as before.
    """
    styles = re.compile(r'style="[^"]*"')
    colours = dict.fromkeys(found.lower() for style in styles.findall(svg) for found in COLOUR.findall(style))

    def named(style: re.Match[str]) -> str:
        return COLOUR.sub(lambda colour: f"var(--c{colour[0][1:].lower()}, {colour[0]})", style[0])

    dark = " ".join(f"--c{colour[1:]}: {on_dark(colour)};" for colour in colours)
    sheet = f"<style>@media screen and (prefers-color-scheme: dark) {{ :root {{ fill: {DARK_INK}; {dark} }} }}</style>"
    opening = svg.index(">", svg.index("<svg")) + 1
    return svg[:opening] + sheet + styles.sub(named, svg[opening:])


def on_dark(colour: str) -> str:
    """The colour for dark paper: greys run from its ink for black to the paper itself for white; hues are kept."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(colour))
    if saturation < GREYS or lightness in (0.0, 1.0):
        ink, paper = _parts(DARK_INK), _parts(DARK_PAPER)
        return _spelled(tuple(i + (p - i) * lightness**2 for i, p in zip(ink, paper, strict=True)))
    while contrast(_spelled(colorsys.hls_to_rgb(hue, lightness, saturation)), DARK_PAPER) < LEAST_CONTRAST:
        lightness += 0.01
    return _spelled(colorsys.hls_to_rgb(hue, lightness, saturation))


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio of two colours, 1 to 21."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(colour)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def _spelled(parts: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
