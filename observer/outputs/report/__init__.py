"""One self-contained HTML page about a capture, to send to a colleague: `write_report`.

    facts.py   headline, what was captured, what it cannot tell, how to read it
    cards.py   findings as cards, with the picture of the worst example
    rows.py    connections, findings and resets as tables, limited to the most telling rows
    page.py    all of that into page.html with page.css and page.js; written whole or not at all

Never here: what is found, which findings are alike, what pictures show.
"""

from observer.outputs.report.page import Subject, write_report

__all__ = ["Subject", "write_report"]
