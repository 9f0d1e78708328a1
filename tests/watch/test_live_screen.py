"""The terminal view: what it shows, and its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from feed import FileFeed
from textual.widgets import DataTable, Static

from observer import kernels
from observer.outputs.live_screen import LiveScreen
from observer.watch import Live
from observer.watch.board import Boards
from observer.watch.clock import Clock

QUEUE = Path(__file__).resolve().parents[2] / "captures" / "accept-queue-full.pcap"


def observed() -> tuple[Live, Boards]:
    boards = Boards()
    live = Live(
        FileFeed(QUEUE, 10), engine=kernels.Interpreted(), clock=Clock(steady=lambda: 0), watchers=[boards]
    )  # fmt: skip
    while not live.feed.finished:
        live.step()
    live.tick()
    return live, boards


def shown(size: tuple[int, int], act: Callable[[LiveScreen, Any], Awaitable[None]]) -> None:
    live, boards = observed()
    app = LiveScreen(
        "eth0\x1b", board=lambda: boards.latest, story=lambda stream, width: live.story(stream, width=width),
        finished=lambda: False,
    )  # fmt: skip

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    try:
        asyncio.run(run())
    finally:
        live.end()


def cells(app: LiveScreen, name: str) -> list[list[str]]:
    table = app.screen.query_one(f"#{name}", DataTable)
    return [[str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


def text(app: LiveScreen, name: str) -> str:
    return str(app.screen.query_one(f"#{name}", Static).render())


def test_states_listeners_and_findings() -> None:
    async def look(app: LiveScreen, pilot: Any) -> None:
        assert "\\x1b" in text(app, "head") and "9 conns" in text(app, "head")
        assert "ESTABLISHED" in text(app, "states")
        (listener,) = cells(app, "listeners")
        assert listener[0] == "10.0.2.2:5001" and "5" in listener[3]
        findings = cells(app, "findings")
        assert ["PROBLEM", "confirmed", "accept_queue_overflow", "10.0.2.2:5001"] in [row[1:] for row in findings]

    shown((80, 24), look)


def test_enter_tells_a_connection_s_story_and_escape_comes_back() -> None:
    async def look(app: LiveScreen, pilot: Any) -> None:
        table = app.screen.query_one("#findings", DataTable)
        row = next(at for at, one in enumerate(cells(app, "findings")) if one[3] == "half_established")
        table.move_cursor(row=row)
        await pilot.press("enter")
        await pilot.pause()
        story = str(app.screen.query_one(Static).render())
        assert "half_established" in story and "SYN-RECEIVED" in story and "Remedy: " in story
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query("#findings")

    shown((200, 50), look)


def test_filter_narrows_and_escape_shows_all() -> None:
    async def look(app: LiveScreen, pilot: Any) -> None:
        every = len(cells(app, "findings"))
        await pilot.press("slash", *"overflow")
        await pilot.pause()
        assert [row[3] for row in cells(app, "findings")] == ["accept_queue_overflow"]
        await pilot.press("escape")
        await pilot.pause()
        assert len(cells(app, "findings")) == every > 1

    shown((80, 24), look)
