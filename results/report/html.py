"""HTML as a value: whatever is not `Html` already is escaped when it is put into an element."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable

VOID = {"br", "col", "hr", "img", "link", "meta", "source"}


class Html(str):
    """Markup that may stand in a page as it is."""

    __slots__ = ()


def element(name: str, /, *children: str | Html, **attributes: str | bool | None) -> Html:
    """`<name attributes>children</name>`, everything escaped.

    `class_` is class, `aria_label` is aria-label; True is an attribute without a value, None and False are left out.
    """
    opening = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    inner = joined(children)
    return Html(f"<{name}{opening}>" if name in VOID else f"<{name}{opening}>{inner}</{name}>")


def joined(children: Iterable[str | Html], between: str = "") -> Html:
    """The children one after the other, escaped where they are plain text."""
    return Html(between.join(escaped(child) for child in children))


def escaped(text: str | Html) -> Html:
    """The text as markup that shows it; `Html` stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text, quote=True))


def unbroken(text: str | Html) -> Html:
    """The text with each option of a command and its value kept on one line, as far as the line is long enough."""
    if isinstance(text, Html):
        return text
    parts = re.split(r"(?<![\w-])(--[a-z][\w-]*(?: (?!-)[^\s;,.]\S*)?)", text)
    return joined(element("span", part, class_="option") if place % 2 else part for place, part in enumerate(parts))


def data_uri(content: str, media_type: str) -> str:
    """A data: address that holds the text itself."""
    encoded = base64.b64encode(content.encode("utf-8")).decode("ascii")
    return f"data:{media_type};charset=utf-8;base64,{encoded}"


def _attribute(key: str, value: str | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
