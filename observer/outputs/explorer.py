"""An explorer for notebooks: choose a finding or a connection; see its ladder, its time-sequence graph, its story.

Made of ipywidgets, which are imported when the explorer is shown; without them it shows what can be seen without
choosing, and says so.  A notebook that is saved and opened elsewhere shows that, too.

Never here: what is shown of a connection (`Flow`, `html`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy

from observer.errors import ObserverError
from observer.outputs.grouping import group
from observer.outputs.html import group_html, note_html, page, text_html
from observer.outputs.text import clean, count, endpoint, state_words
from observer.schema import ENDINGS, ENDPOINTS, GRADES, SEVERITIES, STATES, Columns

MOST: Final = 500
"""Entries of a list: a longer one is searched, not read."""
VIEWS: Final = ("ladder", "time-sequence", "story")
KINDS: Final = ("findings", "connections")


class FlowView(Protocol):
    """What is asked of a connection."""

    def picture_html(self, name: str = "ladder", **options: Any) -> str:
        """Draw a picture as HTML, or say why not."""

    def explain(self, *, everything: bool = False, width: int = 80) -> Any:
        """Tell its story."""


class Explored(Protocol):
    """What is asked of an observation."""

    def columns(self, table: str) -> Columns:
        """Give raw columns."""

    def flow(self, stream: int) -> Any:
        """Give one connection, as `FlowView`."""

    @property
    def begin_ns(self) -> int:
        """Give the time of the first frame."""

    def _repr_html_(self) -> str: ...

    def explain(self, *, width: int = 80) -> Any:
        """Tell the whole."""


class Entry(NamedTuple):
    """One line of a list: what it says, the connection that is shown, the finding's row (-1: none)."""

    words: str
    stream: int
    row: int = -1


def explore(observation: Explored) -> Explorer:
    """Return the explorer of an observation."""
    return Explorer(observation)


class Explorer:
    """Shows itself as widgets in a notebook, else as what can be seen without choosing."""

    def __init__(self, observation: Explored) -> None:
        self._observation = observation
        self._panel: Panel | None = None

    @property
    def panel(self) -> Panel:
        """The widgets.

        Raises
        ------
        ImportError
            ipywidgets are not installed.
        """
        if self._panel is None:
            self._panel = Panel(self._observation)
        return self._panel

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        try:
            bundle = dict(self.panel.widget._repr_mimebundle_())
            said = "A static view: the explorer itself needs a running notebook."
        except ImportError:
            bundle = {}
            said = "A static view: for the explorer, install ipywidgets (pip install 'tcp-observer[notebook]')."
        return {
            **bundle,
            "text/html": page(note_html(said)) + self._observation._repr_html_(),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"{self._observation.explain()}\n\nThe explorer needs a notebook; this is what it would begin with."


class Panel:
    """The widgets, and what they do.

    Attributes
    ----------
    widget
        All of them, as one.
    kind, search, chooser, view, body
        The parts: what is listed, a text that entries must have, the list, what is shown of the chosen one, where.
    """

    def __init__(self, observation: Explored) -> None:
        import ipywidgets

        self._observation = observation
        self._entries = {"findings": finding_entries(observation)}
        self._shown: dict[tuple[str, int], str] = {}
        first = KINDS[0] if self._entries["findings"] else KINDS[1]
        wide = ipywidgets.Layout(width="auto")
        self.kind = ipywidgets.ToggleButtons(options=KINDS, value=first, style={"button_width": "auto"})
        self.search = ipywidgets.Text(placeholder="filter: address, port, state, code", layout=wide)
        self.chooser = ipywidgets.Select(options=[], rows=18, layout=wide)
        self.more = ipywidgets.HTML(layout=wide)
        self.view = ipywidgets.ToggleButtons(options=VIEWS, style={"button_width": "auto"})
        self.body = ipywidgets.HTML(layout=wide)
        left = ipywidgets.VBox(
            [self.kind, self.search, self.chooser, self.more], layout={"width": "36%", "min_width": "16em"}
        )
        right = ipywidgets.VBox([self.view, self.body], layout={"width": "64%", "padding": "0 0 0 1em"})
        self.widget = ipywidgets.HBox([left, right])
        self._list()
        for part in (self.kind, self.search):
            part.observe(lambda _: self._list(), names="value")
        for part in (self.chooser, self.view):
            part.observe(lambda _: self._show(), names="value")

    def _list(self) -> None:
        """Fill the list with what is asked for."""
        if self.kind.value not in self._entries:
            self._entries[self.kind.value] = flow_entries(self._observation)
        entries = self._entries[self.kind.value]
        wanted = self.search.value.lower().split()
        found = [entry for entry in entries if all(word in entry.words.lower() for word in wanted)]
        shown = found[:MOST]
        noun = "connection" if self.kind.value == "connections" else "finding"
        self.more.value = note_html(
            count(len(found), noun) + (f", the first {MOST}: filter to see others" if len(found) > MOST else "")
        )
        self.chooser.options = [(entry.words, entry) for entry in shown]
        self.chooser.value = shown[0] if shown else None
        self._show()

    def _show(self) -> None:
        """Show what is chosen."""
        entry: Entry | None = self.chooser.value
        if entry is None:
            self.body.value = page(note_html("Nothing to choose."))
            return
        card = self._card(entry.row) if entry.row >= 0 else ""
        self.body.value = page(card, self._seen(entry.stream) if entry.stream >= 0 else note_html("No connection."))

    def _card(self, row: int) -> str:
        findings = self._observation.columns("findings").part(row, row + 1)
        return "".join(group_html(one, begin_ns=self._observation.begin_ns) for one in group(findings, absorb=False))

    def _seen(self, stream: int) -> str:
        """Return the chosen view of a connection; what was drawn once is kept."""
        key = (self.view.value, stream)
        if key not in self._shown:
            flow: FlowView = self._observation.flow(stream)
            views: dict[str, Callable[[], str]] = {
                "ladder": flow.picture_html,
                "time-sequence": lambda: flow.picture_html("sequence"),
                "story": lambda: text_html(flow.explain(width=88).lines),
            }
            try:
                self._shown[key] = views[self.view.value]()
            except ObserverError as error:
                return note_html(str(error))
        return self._shown[key]


def finding_entries(observation: Explored) -> list[Entry]:
    """Return the list of findings, the worst first."""
    findings = observation.columns("findings")
    code, addresses = findings["code"], findings.addresses
    members: Sequence[Any] = findings.get("streams", [None] * findings.rows)
    names = ("severity", "grade", "stream", "client_addr", "client_port", "server_addr", "server_port")
    entries = []
    for row, cells in enumerate(zip(*(map(int, findings[name]) for name in names), strict=True)):
        severity, grade, stream, *ends = cells
        where = " -> ".join(
            endpoint(addresses.text(address), port) if port >= 0 else addresses.text(address)
            for address, port in (ends[:2], ends[2:])
            if addresses is not None and address >= 0
        )
        said = f"{code.values[int(code.codes[row])]}  {where}  {SEVERITIES[severity]}, {GRADES[grade]}"
        shown = stream if stream >= 0 else int((members[row] or [-1])[0])
        entries.append(Entry(clean(f"{stream if stream >= 0 else 'all'}  {said}"), shown, row))
    return entries


def flow_entries(observation: Explored) -> list[Entry]:
    """Return the list of connections, by number."""
    flows = observation.columns("flows")
    texts = flows.addresses.texts() if flows.addresses else []
    names = ("stream", "ended", *(f"{side}_{name}" for side in ENDPOINTS for name in ("addr", "port", "state")))
    cells = (numpy.asarray(flows[name]).tolist() for name in names)
    states = [state_words(name) for name in STATES]
    return [
        Entry(
            f"{stream}  {endpoint(texts[client], client_port)} -> {endpoint(texts[server], server_port)}  "
            f"{ENDINGS[ended]}, {states[client_state]} / {states[server_state]}",
            stream,
        )
        for stream, ended, client, client_port, client_state, server, server_port, server_state in zip(
            *cells, strict=True
        )
    ]
