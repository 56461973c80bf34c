"""HTML as a tree, so that every text from a file is escaped by the one who writes it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

_UNPRINTABLE = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
Child = Element | str | None


def element(tag: str, *children: Child, **attributes: object) -> Element:
    """An element; attributes that are None are left out, `class_` is class and `stroke_width` stroke-width."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    node = Element(tag, {name: _clean(str(value)) for name, value in named.items()})
    add(node, children)
    return node


def add(node: Element, children: Iterable[Child]) -> None:
    """Append elements and texts; None is left out."""
    for child in children:
        if isinstance(child, str):
            if len(node):
                node[-1].tail = (node[-1].tail or "") + _clean(child)
            else:
                node.text = (node.text or "") + _clean(child)
        elif child is not None:
            node.append(child)


def _clean(text: str) -> str:
    """Without control characters, and without halves of characters as undecodable file names have them."""
    return text.translate(_UNPRINTABLE).encode("utf-8", "replace").decode("utf-8")


def html(node: Element) -> str:
    """The tree as text; elements without an end tag (img, br) are not for it."""
    return tostring(node, encoding="unicode", method="xml", short_empty_elements=False)


def section(name: str, heading: str, *children: Child) -> Element:
    """A section of the page under its heading; `name` is what links lead to."""
    return element("section", element("h2", heading), *children, id=name)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Child]]) -> Element:
    """A table whose first column names the rows; on a narrow screen it scrolls by itself."""
    top = element("tr", *(element("th", text, scope="col") for text in head))
    body = element("tbody")
    for first, *rest in rows:
        body.append(element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest)))
    whole = element("table", element("caption", caption), element("thead", top), body)
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def number(value: float) -> str:
    """Three significant digits in as few characters as read well: 0.0123, 4.57, 812, 15k, 1.7M."""
    for unit, text in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if text == 'k' else unit):.3g}{text}"
    return f"{round(value):d}" if abs(value) >= 100 else f"{value:.3g}"
