"""Pictures as pieces of an HTML page: SVG that may stand beside other SVG, or PNG where SVG would be too large.

An SVG of matplotlib names its parts alike in every file, and carries a document type, metadata and comments; what is
returned here has names of its own and nothing but elements that draw.

Never here: what a picture shows, or the page.  Sources: SVG 1.1 (elements, references), RFC 2397 (data URLs).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from observer.errors import ObserverError
from observer.plots import style
from observer.plots.subject import numbers
from observer.registry import Plot, collect
from observer.schema import Columns

if TYPE_CHECKING:
    from observer.plots.subject import FlowSubject, ObservationSubject

SVG: Final = "http://www.w3.org/2000/svg"
LINK: Final = "{http://www.w3.org/1999/xlink}href"
DRAWING: Final = frozenset(
    f"{{{SVG}}}{name}"
    for name in ("svg", "g", "path", "use", "defs", "clipPath", "pattern", "rect", "circle", "ellipse", "line",
                 "polyline", "polygon", "text", "tspan", "image", "marker")
)  # fmt: skip
"""Elements that may stay; what is not here (metadata, and whatever else) is left out with all that is in it.

A style element would be the whole page's: the page has matplotlib's one rule itself (page.css)."""
LARGEST_SVG: Final = 400_000
"""Octets of one SVG; a larger one becomes a PNG, which does not grow with what is drawn."""
DOTS_PER_INCH: Final = 110
REFERENCE: Final = re.compile(r"url\(#([^)]*)\)")
FONTS: Final = re.compile(r" *font-family: [^;]*;?")
"""Said once, by the page."""
DIGITS: Final = re.compile(r"(\.\d\d)\d+")
"""A hundredth of a point is finer than any screen."""
IDENTITY: Final = ("Date", "Creator", "Format", "Type")
"""Metadata that matplotlib writes unless told not to."""


Calls = Callable[[Sequence[int]], Columns]
"""Makes the table of calls of some connections at once: it looks at all of the capture each time."""


class _Flow:
    """A connection whose calls are known already."""

    def __init__(self, flow: FlowSubject, calls: Columns) -> None:
        self.stream = flow.stream
        self.observation = flow.observation
        self._flow = flow
        self._calls = calls

    def columns(self, table: str) -> Columns:
        """Return raw columns, see `FlowSubject`."""
        return self._calls if table == "calls" else self._flow.columns(table)


class Drawing:
    """Draws the pictures of one observation for a page.

    Parameters
    ----------
    observation
        What to draw.
    calls
        Makes the calls of all connections that are drawn at once; None: each connection makes its own.

    Attributes
    ----------
    state_colours
        Colour "#RRGGBB" of each state, by name.
    """

    def __init__(self, observation: ObservationSubject, calls: Calls | None = None) -> None:
        self.observation = observation
        self.state_colours = dict(style.STATE_COLOURS)
        self._make_calls = calls
        self._calls: Columns | None = None

    def prepare(self, streams: Sequence[int]) -> str:
        """Get what pictures of these connections need; return why they cannot be drawn, "" if they can."""
        try:
            self.observation.keep(streams)
        except ObserverError as error:
            return str(error)
        self._calls = self._make_calls(streams) if self._make_calls is not None else None
        return ""

    def _flow(self, stream: int) -> FlowSubject:
        flow = self.observation.flow(stream)
        if self._calls is None:
            return flow
        return _Flow(flow, self._calls.take(numbers(self._calls, "stream") == stream))

    def __call__(self, name: str, stream: int | None = None) -> str:
        """Draw a picture, of one connection or of all.

        Returns
        -------
        str
            An element of HTML: svg, or img with a data URL; "" if there is nothing to see.
        """
        plot = collect(Plot)[name]
        subject = self.observation if stream is None else self._flow(stream)
        key = name if stream is None else f"{name}-{stream}"
        label = plot.doc if stream is None else f"Stream {stream}. {plot.doc}"
        return draw_inline(plot, subject, key=key, label=label)


def draw_inline(plot: Plot, subject: Any, *, key: str, label: str, largest: int = LARGEST_SVG) -> str:
    """Draw one picture as an element of HTML, see `Drawing`.

    Parameters
    ----------
    plot, subject
        What to draw, and of what.
    key
        Begins the names of all parts of the picture: one of its own for each on a page.
    label
        What it shows, for those who cannot see it.
    largest
        Octets from which on it becomes a PNG.
    """
    import matplotlib

    with style.offscreen(), matplotlib.rc_context({"svg.hashsalt": f"observer-{key}", "svg.fonttype": "none"}):
        ax = plot.draw(subject)
        if ax.get_gid() == style.EMPTY:
            return ""
        figure: Any = ax.figure
        octets = io.BytesIO()
        figure.savefig(octets, format="svg", metadata=dict.fromkeys(IDENTITY))
        text = embedded(octets.getvalue(), key, label)
        if len(text) <= largest:
            return text
        octets = io.BytesIO()
        figure.savefig(octets, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    data = base64.b64encode(octets.getvalue()).decode("ascii")
    return f'<img class="picture" alt="{escape(label)}" src="data:image/png;base64,{data}">'


def embedded(octets: bytes, key: str, label: str) -> str:
    """Turn an SVG file into an svg element for a page: names begin with `key`, only elements that draw, no size.

    Examples
    --------
    >>> file = b'<svg xmlns="http://www.w3.org/2000/svg" width="9pt"><script/><g id="a"/><use href="#a"/></svg>'
    >>> embedded(file, "k", "A line")
    '<svg role="img" aria-label="A line" class="picture"><g id="k-a" /><use href="#k-a" /></svg>'
    """
    root = ElementTree.fromstring(octets)
    _strip(root)
    for one in root.iter():
        _rename(one, key)
        one.tag = one.tag.removeprefix(f"{{{SVG}}}")
    size = {name: root.attrib.pop(name) for name in ("width", "height") if name in root.attrib}
    for name in ("version", "id"):
        root.attrib.pop(name, None)
    shape = {"viewBox": root.attrib["viewBox"]} if "viewBox" in root.attrib else {}
    if shape and "width" in size:
        shape["style"] = f"--natural: {size['width']}"
    root.attrib = {"role": "img", "aria-label": label, "class": "picture", **shape}
    return ElementTree.tostring(root, encoding="unicode")


def _strip(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag in DRAWING:
            _strip(child)
        else:
            element.remove(child)


def _rename(element: ElementTree.Element, key: str) -> None:
    """Put the key before the element's name and before every name that it refers to; drop what could act."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{key}-{value}")
        elif name in ("href", LINK):
            del element.attrib[name]
            if value.startswith("#"):
                element.set("href", f"#{key}-{value[1:]}")
            elif value.startswith("data:image/png;base64,"):
                element.set("href", value)
        elif name == "d":
            element.set(name, DIGITS.sub(r"\1", value))
        elif name.lower().startswith("on"):
            del element.attrib[name]
        elif name == "style" or "url(" in value:
            element.set(name, FONTS.sub("", REFERENCE.sub(lambda found: f"url(#{key}-{found[1]})", value)))
