"""The tables' documentation for people at a terminal.

Never here: what columns mean; that stands in the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from observer.outputs.text import PLAIN_WIDTH, Line, plain, wrapped
from observer.schema import document, table


def render_schema(names: Sequence[str], *, width: int = PLAIN_WIDTH) -> Iterator[Line]:
    """Lay out what these tables hold, a column a paragraph."""
    for i, name in enumerate(names):
        if i:
            yield ()
        for title in wrapped([f"{name}:", *table(name).doc.split()], width):
            yield plain(title, "title")
        lines = document(name)
        left = max(len(line.name) for line in lines)
        for line in lines:
            words = line.doc.split()
            words += ["[" + ", ".join(part for part in (line.dtype, line.unit, line.source) if part) + "]"]
            if line.values:
                values = line.values.split(" ")
                words += ["(" + values[0], *values[1:]]
                words[-1] += ")"
            begin = f"  {line.name:<{left}}  "
            body = wrapped(["", *words], width - len(begin), "")
            for j, text in enumerate(body):
                yield ((begin if j == 0 else " " * len(begin), "name"), (text.strip(), ""))
