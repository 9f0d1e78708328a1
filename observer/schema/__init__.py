"""Every table's columns as data: name, type, unit, meaning, source.  Tables are documented, built and checked from it.

Two forms of a table meet here.  The *raw* form is what the observation holds: a `Columns`, a mapping from column
name to flat numpy arrays of plain integers, made when asked for, in parts if need be.  The *finished* form is what
people get: a pandas DataFrame (`from_columns`) or an equivalent Arrow table (`to_arrow`, used by the writers).

What the raw form holds for each kind of column (`Column.kind`); strided views are welcome everywhere:

=========  =====================================================================================================
kind       raw form
=========  =====================================================================================================
`int`      any integer array; nullable columns: every negative value is null
`bool`     any integer or bool array, 0 is false
`time`     int64, ns since 1970 UTC; NULL_TIME (the smallest int64) is null (numpy's and pandas' NaT)
`address`  integer codes into `Columns.addresses`; -1 is null
`enum`     integer codes into `Column.categories`; -1 is null
`bits`     integer whose bits are the keys of `Column.bits`; the finished form joins their names by `,`; 0 is ""
`label`    `Coded(codes, values)`: integer codes into a list of texts that belongs to this capture; -1 is null
`text`     a sequence of str (None is null), or a numpy array of fixed-width ASCII (dtype S), or a `Coded`
`frames`   a sequence of lists of frame numbers
=========  =====================================================================================================

A nullable column that the raw form lacks altogether is null throughout; any other must be there.

Never here: anything computed about connections.  pandas, pyarrow and numpy are imported when first needed.
"""

from observer.schema.build import document, from_columns, markdown, to_arrow, validate
from observer.schema.declare import (
    CALLS,
    CERTAINTIES,
    CONN_STATES,
    ENDINGS,
    ENDPOINTS,
    FLAGS,
    GRADES,
    MARKS,
    NULL_TIME,
    ROLES,
    SEVERITIES,
    SIDES,
    STATES,
    TAPS,
    Column,
    Kind,
    Table,
)
from observer.schema.raw import Addresses, Coded, Columns, Make, Raw
from observer.schema.tables import TABLES, table

__all__ = [
    "CALLS", "CERTAINTIES", "CONN_STATES", "ENDINGS", "ENDPOINTS", "FLAGS", "GRADES", "MARKS", "NULL_TIME", "ROLES",
    "SEVERITIES", "SIDES", "STATES", "TABLES", "TAPS", "Addresses", "Coded", "Column", "Columns", "Kind", "Make", "Raw",
    "Table", "document", "from_columns", "markdown", "table", "to_arrow", "validate",
]  # fmt: skip
