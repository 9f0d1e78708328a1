"""One finding of an observation: what it says, its connections, and their packets with the evidence marked.

Never here: what a finding means, or its words (findings, outputs).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy

from observer import schema
from observer.errors import ObserverError, OptionError
from observer.schema import Columns

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from observer.flow import Flow
    from observer.outputs.html import Told
    from observer.views import Views

MOST_STREAMS: Final = 50
"""Connections of a population's finding whose packets are shown: the first ones that it names."""


class Found:
    """One finding: a row of the table of findings, and the way from there to its connections and packets.

    Attributes
    ----------
    number
        Its row in the table of findings.
    row
        That row.
    streams
        Numbers of its connections; of a population, of all that make it up, as the finding names them.
    """

    def __init__(self, tables: Views, number: int) -> None:
        columns = tables.columns("findings")
        if not 0 <= number < columns.rows:
            raise ObserverError(f"there is no finding {number}: there are {columns.rows}, numbered from 0")
        self.number = number
        self._tables = tables
        self._columns: Columns = columns.part(number, number + 1)
        own = int(numpy.asarray(self._columns["stream"])[0])
        members = self._columns.get("streams", [None])[0]
        self.streams: list[int] = [own] if own >= 0 else [int(stream) for stream in members or ()]

    @cached_property
    def row(self) -> pandas.Series[Any]:
        """Its row of the table of findings."""
        made: pandas.Series[Any] = schema.from_columns("findings", self._columns).iloc[0]
        made.name = self.number
        return made

    @property
    def flow(self) -> Flow:
        """Its connection; of a population, the first that it names.

        Raises
        ------
        ObserverError
            A finding about a population that names no connection.
        """
        if not self.streams:
            raise ObserverError(f"finding {self.number} is about a population and names no connection")
        return self._tables.flow(self.streams[0])

    @cached_property
    def packets(self) -> pandas.DataFrame:
        """The packets of its connections (at most 50 of a population), with a column `evidence`: bool."""
        table = self._tables.packets(sorted(self.streams[:MOST_STREAMS]))
        table["evidence"] = table["frame"].isin(self._columns["frames"][0] or [])
        return table

    def explain(self, *, width: int = 80) -> Told:
        """Tell what was found, and the story of its connection, as text that prints well."""
        from observer.outputs.findings_text import render_findings
        from observer.outputs.grouping import group
        from observer.outputs.html import Told
        from observer.outputs.text import plain

        said = render_findings(
            group(self._columns), connections=len(self.streams), begin_ns=self._tables.begin_ns, width=width
        )
        lines = list(said)[1:]  # the first counts findings
        if self.streams:
            try:
                story = self.flow.explain(width=width).lines
            except ObserverError as error:
                story = [plain(f"The connection's story cannot be told: {error}", "dim")]
            lines += [(), *story]
        return Told(lines)

    def plot(self, name: str = "ladder", *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a picture of its connection, see `Flow.plot`."""
        return self.flow.plot(name, ax=ax, **options)

    def _repr_html_(self) -> str:
        from observer.outputs.html import finding_html

        picture = self.flow.picture_html() if self.streams else ""
        return finding_html(self._columns, begin_ns=self._tables.begin_ns, picture=picture)

    def __repr__(self) -> str:
        code, severity = self.row["code"], self.row["severity"]
        where = f"stream {self.streams[0]}" if len(self.streams) == 1 else f"{len(self.streams):,} connections"
        return f"<Found {self.number}: {severity} {code}, {where}>"


def number_of(row: Any, findings: Columns) -> int:
    """Return the number of a finding that was given as a number or as a row of the table of findings.

    Raises
    ------
    OptionError
        It is neither, or a row of another table.
    """
    label = getattr(row, "name", row)
    if isinstance(label, bool) or not isinstance(label, int | numpy.integer):
        raise OptionError("name a finding by its number, or by a row of .findings, such as .findings.iloc[0]")
    number = int(label)
    if hasattr(row, "name") and (
        not 0 <= number < findings.rows or findings["summary"][number] != row.get("summary", None)
    ):
        raise OptionError("this row is of another table of findings than this one's")
    return number
