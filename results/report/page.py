"""A page: a title and sections, as one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from results.report.blocks import Block, anchor
from results.report.html import Html, element, joined


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def id(self) -> str:
        """Where links to the section lead."""
        return anchor(self.title)

    def html(self) -> Html:
        """A <section>."""
        heading_id = f"{self.id}-heading"
        heading = element("h2", self.title, id=heading_id)
        return element(
            "section", heading, *[block.html() for block in self.blocks], id=self.id, aria_labelledby=heading_id
        )


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def html(self) -> str:
        """The whole file. Its policy forbids every request; styles and script count by their digests alone."""
        style, script = _resource("page.css"), _resource("page.js")
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", self.title),
            element("link", rel="icon", href="data:,"),
            element("style", style),
        )
        header = element("header", element("h1", self.title), element("p", self.subtitle, class_="subtitle"))
        main = element("main", *[section.html() for section in self.sections], id="main")
        body = element(
            "body",
            element("a", "Skip to the report", href="#main", class_="skip"),
            header,
            self._contents(),
            main,
            element("script", script),
        )
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"

    def _contents(self) -> Html:
        links = [element("li", element("a", section.title, href=f"#{section.id}")) for section in self.sections]
        return element("nav", element("h2", "Contents"), element("ol", *links), aria_label="Contents")


def _policy(style: str, script: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


@cache
def _resource(name: str) -> Html:
    """The text of a file beside this module, which stands in the page unescaped."""
    return joined([Html(files("results.report").joinpath(name).read_text(encoding="utf-8"))])
