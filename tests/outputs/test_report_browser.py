"""The report in a real browser: no error, no request, and everything that the page offers works, also by keyboard.

Needs Chromium and the package playwright; skipped, with the reason, where either is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import observer

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    # a browser on a busy machine takes its time; playwright's own waits end first
    pytest.mark.timeout(900),
]
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
PATIENCE_MS = 120_000
CAPTURES = ("accept-queue-full.pcap", "time-wait-pileup.pcap.gz", "ugly")
QUEUE = CAPTURES[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        try:
            started = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE_MS)
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start here: {str(error).splitlines()[0]}")
        yield started
        started.close()


def ugly(folder: Path, captures: Path) -> Path:
    """Damaged at the end, begun in mid-stream, and called like markup."""
    octets = (captures / "accept-queue-full.pcap").read_bytes()
    path = folder / "<img src=x onerror=alert(1)>&quot;.pcap"
    first = 24 + 16 + int.from_bytes(octets[32:36], "little")
    path.write_bytes(octets[:24] + octets[first:-7])
    return path


@pytest.fixture(scope="module")
def reports(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the report of each capture is."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}
    for number, name in enumerate(CAPTURES):
        path = folder / f"{number}.html"
        observer.read(ugly(folder, captures) if name == "ugly" else captures / name).report(path)
        made[name] = path.as_uri()
    return made


@contextmanager
def opened(browser: Any, address: str, **context: Any) -> Iterator[Any]:
    """Open a page; fails for whatever it complains about or asks for."""
    wrong: list[str] = []
    made = browser.new_context(**context)
    made.set_default_timeout(PATIENCE_MS)
    page = made.new_page()
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if request.url.split("#")[0] != address and
            not request.url.startswith("data:") else None)  # fmt: skip
    page.goto(address)
    try:
        yield page
        assert wrong == []
    finally:
        made.close()


def column(page: Any, sheet: str, title: str) -> list[str]:
    """The texts of a column as they are shown."""
    titles = page.locator(f"#{sheet} table.data thead th").all_inner_texts()
    at = [text.strip() for text in titles].index(title)
    return [text.strip() for text in page.locator(f"#{sheet} tbody tr td:nth-child({at + 1})").all_inner_texts()]


def shown(page: Any, sheet: str) -> str:
    return str(page.locator(f"#{sheet} .shown").inner_text())


@pytest.mark.parametrize("name", CAPTURES)
def test_opens_without_error_and_asks_for_nothing(name: str, browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[name]) as page:
        assert page.locator("h1").inner_text()
        assert page.locator("#connections tbody tr").count() > 0
        assert page.evaluate("document.querySelectorAll('main *[onerror], main script:not([type])').length") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "tables scroll, not the page"


@pytest.mark.parametrize("name", CAPTURES)
def test_fits_a_phone(name: str, browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[name], viewport={"width": 390, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_sorts_numbers_as_numbers_both_ways(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        head = page.locator("#connections th", has_text="stream")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        up = [int(text) for text in column(page, "connections", "stream")]
        assert up == sorted(up)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert [int(text) for text in column(page, "connections", "stream")] == up[::-1]
        page.locator("#connections th", has_text="lasted").locator("button").click()
        assert head.get_attribute("aria-sort") == "none"
        titles = [text.strip() for text in page.locator("#connections thead th").all_inner_texts()]
        keys = """at => {
            const rows = JSON.parse(document.getElementById("data-connections").textContent).rows;
            const key = new Map(rows.map((row) => [String(row[0]), row[at][1]]));
            const cells = document.querySelectorAll("#connections tbody td:first-child");
            return [...cells].map((cell) => key.get(cell.textContent.trim()));
        }"""
        spans = page.evaluate(keys, titles.index("lasted"))
        assert len(set(spans)) > 1
        assert spans == sorted(spans)


def test_searches_every_word_in_every_cell(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        total = page.locator("#connections tbody tr").count()
        field = page.locator("#connections input")
        field.fill("HALF_established_reset 10.0.1.2")
        found = column(page, "connections", "findings")
        assert 0 < len(found) < total
        assert all("half_established_reset" in text for text in found)
        field.fill("no such thing")
        assert page.locator("#connections tbody tr").count() == 0
        assert shown(page, "connections").startswith("0 ")
        field.fill("")
        assert page.locator("#connections tbody tr").count() == total


def test_pages_through_many_rows(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports["time-wait-pileup.pcap.gz"]) as page:
        first = column(page, "connections", "stream")
        previous, following = (page.locator(f"#connections .{name}") for name in ("previous", "next"))
        assert previous.is_disabled() and not following.is_disabled()
        following.click()
        second = column(page, "connections", "stream")
        assert not set(first) & set(second)
        previous.click()
        assert column(page, "connections", "stream") == first


def test_a_finding_leads_to_its_ladder(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        ladder = page.locator("details.ladder").first
        ladder.evaluate("element => { element.open = false; }")
        identity = ladder.get_attribute("id")
        page.locator(f"#finding-list a[href='#{identity}']").first.click()
        page.wait_for_function("id => document.getElementById(id).open", arg=identity)
        assert ladder.locator("svg").is_visible()
        ladder.evaluate("element => { element.open = false; }")
        page.locator(f"#connections a[href='#{identity}']").first.click()
        page.wait_for_function("id => document.getElementById(id).open", arg=identity)


def test_a_card_shows_its_connections(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        page.locator("#finding-1 button.find").click()
        assert page.locator("#connections input").input_value() == "accept_queue_overflow"
        streams = sorted(column(page, "connections", "stream"))
        assert streams == ["5", "6", "7", "8"], "those that the card's filter names"


def test_copies_the_filter(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE], permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("#finding-1 button.copy").first.click()
        page.wait_for_function("document.getElementById('said').textContent !== ''")
        assert page.locator("#said").inner_text() == "Copied"
        assert (
            page.evaluate("navigator.clipboard.readText()")
            == page.locator("#finding-1 .command code").first.inner_text()
        )


def test_by_keyboard_alone(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        where = """() => {
            const at = document.activeElement, section = at.closest("section") || {};
            return at === document.body ? "" : [at.tagName, at.id, at.className, section.id, at.textContent].join(" ");
        }"""
        reached: set[str] = set()
        for _ in range(400):
            page.keyboard.press("Tab")
            place = page.evaluate(where)
            if place in reached and place.startswith("A  skip"):
                break
            reached.add(place)
        for wanted in ("theme", "copy", "SUMMARY", "INPUT", "connections stream", "figure", "find"):
            assert any(wanted in place for place in reached), wanted
        sort = page.locator("#connections th button").first
        sort.focus()
        page.keyboard.press("Enter")
        assert page.locator("#connections th").first.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Space")
        assert page.locator("#connections th").first.get_attribute("aria-sort") == "descending"
        summary = page.locator("details.ladder summary").first
        before = page.locator("details.ladder").first.evaluate("element => element.open")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("details.ladder").first.evaluate("element => element.open") is not before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(scheme: str, browser: Any, reports: dict[str, str]) -> None:
    def is_dark(page: Any) -> bool:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in background.strip("rgb()").split(",")) < 3 * 128

    with opened(browser, reports[QUEUE], color_scheme=scheme) as page:
        assert is_dark(page) is (scheme == "dark")
        page.locator("#theme").click()
        assert is_dark(page) is (scheme == "light")
        page.locator("#theme").click()
        assert is_dark(page) is (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_background(scheme: str, browser: Any, reports: dict[str, str]) -> None:
    """WCAG 2.1, 1.4.3: 4.5 : 1 for all text of the page itself; pictures are drawn for white and stand on white."""
    with opened(browser, reports[QUEUE], color_scheme=scheme) as page:
        poor = page.evaluate("""() => {
            const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = (element) => {
                for (let at = element; at; at = at.parentElement) {
                    const colour = parts(getComputedStyle(at).backgroundColor);
                    if (colour.length < 4 || colour[3] > 0) return colour;
                }
                return [255, 255, 255];
            };
            const found = [];
            for (const element of document.querySelectorAll("body *:not(svg *)")) {
                const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
                if (!own || !element.checkVisibility() || element.disabled) continue;
                const a = light(parts(getComputedStyle(element).color)), b = light(ground(element));
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
            }
            return [...new Set(found)];
        }""")
        assert poor == []


def test_prints_with_everything_open(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE]) as page:
        closed = page.locator("main details:not([open])").count()
        assert closed > 0
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("main details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("main details:not([open])").count() == closed
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_without_script_everything_can_be_read(browser: Any, reports: dict[str, str]) -> None:
    with opened(browser, reports[QUEUE], java_script_enabled=False) as page:
        assert page.locator("#connections tbody tr").count() == 9
        assert page.locator("details.ladder svg").first.is_visible()
        assert not page.locator("#theme").is_visible() and not page.locator("#connections .tools").is_visible()
