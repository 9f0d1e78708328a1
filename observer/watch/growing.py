"""Tables that grow: each is made anew whenever it is asked for.

Never here: what they are made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.observation import Tables

if TYPE_CHECKING:
    import pandas


class Growing(Tables):
    """The tables of an observation that goes on, as DataFrames."""

    def _frame(self, table: str) -> pandas.DataFrame:
        """Make a table as things are now."""
        raise NotImplementedError

    @property
    def flows(self) -> pandas.DataFrame:
        """Give one row per connection, as things are now."""
        return self._frame("flows")

    @property
    def transitions(self) -> pandas.DataFrame:
        """Give the changes of state so far."""
        return self._frame("transitions")

    @property
    def events(self) -> pandas.DataFrame:
        """Give everything else that was notable so far."""
        return self._frame("events")

    @property
    def skipped(self) -> pandas.DataFrame:
        """Give what was not decoded so far, by reason."""
        return self._frame("skipped")

    @property
    def findings(self) -> pandas.DataFrame:
        """Give what is wrong, as things are now."""
        return self._frame("findings")

    @property
    def resets(self) -> pandas.DataFrame:
        """Give every RST so far."""
        return self._frame("resets")

    @property
    def calls(self) -> pandas.DataFrame:
        """Give the socket view, as things are now."""
        return self._frame("calls")

    @property
    def population(self) -> pandas.DataFrame:
        """Give the number of endpoints in each state over time."""
        return self._frame("population")
