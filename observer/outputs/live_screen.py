"""The terminal view of a live observation: rates, states, listeners, findings, and one connection's story on a key.

Made with textual, which knows terminals: sizes, keys, mouse, no colour.  Shows what a board holds and asks for stories;
80 x 24 is enough.

Never here: counting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from observer.outputs.findings_text import sentence
from observer.outputs.text import clean, duration, endpoint, percent, state_words
from observer.schema import STATES

REFRESH_S: Final = 0.5
BAR: Final = 4
SEVERITY_STYLES: Final = {"problem": "bold red", "warning": "yellow", "info": ""}


def head_text(board: Any, name: str, seconds: float) -> Text:
    """Return the top line: what is watched, how fast, what was lost, since when; `board` as `watch.board.Board`."""
    kernel = sum(one.dropped_kernel or 0 for one in board.interfaces)
    interface = sum(one.dropped_interface or 0 for one in board.interfaces)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {clean(name)} ", "bold reverse")
    text.append(f" {board.frames_per_s:,.0f} frames/s ", "bold")
    lost = f" lost {kernel:,} kernel {interface:,} card {board.evicted:,} room "
    text.append(lost, "bold red" if kernel or interface or board.evicted else "dim")
    text.append(f" {board.connections:,} conns  up {duration(round(seconds) * 10**9)}")
    return text


def states_text(board: Any) -> Text:
    """Return how many ends are in which state."""
    text = Text("state         client server\n", "bold")
    shown = [state for state in STATES if any(board.states[side].get(state) for side in board.states)]
    for state in shown:
        client, server = (board.states[side].get(state, 0) for side in ("client", "server"))
        text.append(f"{state_words(state):13}{_short(client):>7}{_short(server):>7}\n")
    return text


def _short(number: int) -> str:
    """Return a number in at most six characters."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1000:,.0f}k" if number < 10_000_000 else f"{number / 1e6:,.0f}M"


def bar(share: float, width: int = BAR) -> str:
    """Return a share as a bar.

    Examples
    --------
    >>> bar(0.5, 4), bar(0.01, 4), bar(0, 4)
    ('##..', '#...', '....')
    """
    filled = min(width, max(round(share * width), 1 if share > 0 else 0))
    return "#" * filled + "." * (width - filled)


def listener_cells(one: Any) -> list[str]:
    """Return a listener's row: place, SYN-RECEIVED, half-established, ESTABLISHED, CLOSE-WAIT, TIME-WAIT, its share."""
    states = one.states
    return [
        endpoint(one.address, one.port),
        *(_short(number).rjust(6) for number in (
            states.get("SYN_RECEIVED", 0), one.half_established, states.get("ESTABLISHED", 0),
            states.get("CLOSE_WAIT", 0), one.time_wait,
        )),
        f" {bar(one.share)} {percent(round(one.share * 1000), 1000)}" if one.time_wait else "",
    ]  # fmt: skip


LISTENER_HEADS: Final = ("listener", " SYN-R", "  half", " ESTAB", " CLO-W", " TIM-W", " ports")
FINDING_HEADS: Final = ("age     ", "severity ", "grade     ", "finding             ", "where")


def finding_cells(row: Mapping[str, Any], now_ns: int) -> list[Text]:
    """Return a finding's row: how long ago it began, how bad, how sure, what, where."""
    style = SEVERITY_STYLES.get(row["severity"], "") if row["end"] is None else "dim"
    age = duration(max(now_ns - row["begin"], 0)) if row["begin"] is not None else ""
    words = [age, row["severity"].upper(), row["grade"], row["code"], where(row)]
    return [Text(word, style) for word in words]


def where(row: Mapping[str, Any]) -> str:
    """Name the connection, or the place, that a finding is about."""
    ends = [
        endpoint(address, port) if port is not None else address
        for address, port in ((row["client_addr"], row["client_port"]), (row["server_addr"], row["server_port"]))
        if address is not None
    ]
    number = f"  [{row['stream']}]" if row["stream"] is not None else ""
    return " -> ".join(ends) + number


class Detail(Screen[None]):
    """One finding, and its connection's story."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,left", "app.pop_screen", "back"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with VerticalScroll():
            yield Static(Text(self._text))
        yield Footer()


class LiveScreen(App[None]):
    """The view.

    Parameters
    ----------
    name
        What is watched.
    board
        Gives the latest board, None while there is none.
    story
        Tells a connection's story in so many columns, or why it cannot.
    finished
        Whether watching is over.
    """

    CSS = """
    #head { height: 1; }
    #upper { height: 45%; }
    #states { width: 29; padding: 0 1; }
    #listeners { width: 1fr; overflow-x: hidden; scrollbar-size: 1 1; }
    #findings { height: 1fr; overflow-x: hidden; scrollbar-size: 1 1; }
    #filter { display: none; height: 3; }
    DataTable > .datatable--header { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "quit", priority=False),
        Binding("f", "focus('#findings')", "findings"),
        Binding("l", "focus('#listeners')", "listeners"),
        Binding("slash", "filter", "filter"),
        Binding("escape", "clear_filter", "all", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        name: str,
        *,
        board: Callable[[], Any],
        story: Callable[[int, int], str],
        finished: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._watched = name
        self._board = board
        self._story = story
        self._finished = finished
        self._begun = time.monotonic()
        self._filter = ""
        self._shown: list[Mapping[str, Any]] = []

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static(id="head")
        with Horizontal(id="upper"):
            yield Static(id="states")
            yield DataTable(id="listeners", cursor_type="row", cell_padding=0)
        yield DataTable(id="findings", cursor_type="row", cell_padding=0)
        yield Input(
            placeholder="part of an address, port, code or grade; Enter keeps it, Escape shows all", id="filter"
        )
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.query_one("#listeners", DataTable).add_columns(*LISTENER_HEADS)
        table = self.query_one("#findings", DataTable)
        table.add_columns(*FINDING_HEADS)
        table.focus()
        self.set_interval(REFRESH_S, self.refresh_board)
        self.refresh_board()

    def refresh_board(self) -> None:
        """Show things as they are now."""
        if self._finished():
            self.exit()
            return
        board = self._board()
        if board is None:
            self.query_one("#head", Static).update(f" {clean(self._watched)}: waiting for the first frames")
            return
        self.query_one("#head", Static).update(head_text(board, self._watched, time.monotonic() - self._begun))
        self.query_one("#states", Static).update(states_text(board))
        listeners = [cells for cells in map(listener_cells, board.listeners) if self._filter in cells[0].lower()]
        _fill(self.query_one("#listeners", DataTable), listeners)
        self._shown = [row for row in reversed(board.findings) if self._passes(row)]
        _fill(self.query_one("#findings", DataTable), [finding_cells(row, board.now_ns) for row in self._shown])

    def _passes(self, row: Mapping[str, Any]) -> bool:
        text = f"{row['severity']} {row['grade']} {row['code']} {where(row)}".lower()
        return self._filter in text

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one("#filter", Input)
        field.styles.display = "block"
        field.focus()

    def action_clear_filter(self) -> None:
        """Show all again."""
        field = self.query_one("#filter", Input)
        field.value = self._filter = ""
        field.styles.display = "none"
        self.query_one("#findings", DataTable).focus()
        self.refresh_board()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._filter = event.value.strip().lower()
        self.refresh_board()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        if not self._filter:
            self.action_clear_filter()
        self.query_one("#findings", DataTable).focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show a finding and its connection."""
        if event.data_table.id != "findings" or not 0 <= event.cursor_row < len(self._shown):
            return
        row = self._shown[event.cursor_row]
        words = [
            f"{row['severity'].upper()} {row['grade']} {row['code']}   {where(row)}",
            sentence(clean(row["summary"])),
        ]
        if row["remedy"]:
            words.append(f"Remedy: {clean(row['remedy'])}")
        if row["unknown"]:
            words.append(f"Not known: {clean(row['unknown'])}")
        words.append(f"Wireshark: {row['filter']}")
        if row["stream"] is not None:
            words += ["", self._story(row["stream"], max(self.size.width - 2, 60))]
        self.push_screen(Detail("\n".join(words)))


def _fill(table: DataTable[Any], rows: Sequence[Sequence[Any]]) -> None:
    """Replace a table's rows; the cursor stays where it was, as far as there are rows."""
    at = table.cursor_row
    scroll = table.scroll_y
    table.clear()
    table.add_rows(rows)
    if rows:
        table.move_cursor(row=min(max(at, 0), len(rows) - 1), animate=False, scroll=False)
        table.scroll_to(y=scroll, animate=False)
