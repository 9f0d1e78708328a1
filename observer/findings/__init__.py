"""What is wrong: one module per family, each finding defined where it is computed.

`find` makes the table of findings from an observation, `call_columns` the table of calls, `reset_columns` that of
resets, `population_columns` that of populations.  A new finding is one `registry.Finding` in a module here: the command
line's choices, the documentation and the contract tests follow.

Never here: reading captures, inferring states, printing.
"""

from __future__ import annotations

from observer.findings.calls import call_columns
from observer.findings.population import population_columns
from observer.findings.table import find
from observer.findings.taxonomy import reset_columns

__all__ = ["call_columns", "find", "population_columns", "reset_columns"]
