"""The schema: promised names, raw columns in parts, DataFrames and Arrow tables that say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest

from observer import schema, segments
from observer.errors import ObserverError, OptionError
from observer.schema import TABLES, Addresses, Coded, Columns
from observer.tcp import layout, states

sys.path.insert(0, str(Path(__file__).parent / "outputs"))
import output_samples as samples

PROMISED = {
    "flows": "stream community_id client_addr client_port server_addr server_port roles "
    "first_time last_time first_frame last_frame client_packets server_packets client_octets server_octets "
    "client_unique_octets server_unique_octets "
    "client_retransmitted server_retransmitted client_state server_state client_certainty server_certainty "
    "closed_first ended time_wait_holder tap completeness conn_state history",
    "transitions": "stream endpoint time frame from_state to_state cause certainty proof_frame",
    "events": "stream endpoint time frame event detail",
    "findings": "code severity grade stream endpoint client_addr client_port server_addr server_port cause begin end "
    "frames summary remedy unknown",
    "calls": "stream endpoint call outcome time frame certainty summary",
}


@pytest.mark.parametrize("table", PROMISED)
def test_promised_columns_are_there(table: str) -> None:
    assert set(PROMISED[table].split()) <= set(TABLES[table].names())


def test_names_agree_with_the_core() -> None:
    assert schema.STATES == states.STATES
    assert schema.CERTAINTIES == states.CERTAINTIES
    assert schema.MARKS == layout.MARKS
    flags = ("FIN", "SYN", "RST", "PSH", "URG", "ECE", "CWR", "AE")
    assert {name: bit for bit, name in schema.FLAGS.items()} == {
        **{name: getattr(segments, name) for name in flags}, "ACK": segments.ACK_FLAG,
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    for column in TABLES[table].columns:
        assert column.doc and not column.doc.endswith("."), column.name
        assert bool(column.categories) == (column.kind == "enum")
    assert all(line.name in schema.markdown(table) for line in schema.document(table))


def test_dataframe_is_valid_and_equals_the_arrow_table() -> None:
    columns = samples.flows(200)
    frame = schema.from_columns("flows", columns)
    schema.validate("flows", frame)
    arrow = schema.to_arrow("flows", columns).to_pylist()
    for row, other in zip(frame.astype(object).to_dict("records"), arrow, strict=True):
        for name, value in row.items():
            if name.endswith("_time"):
                assert value.value == other[name].value, name
            else:
                assert (None if pandas.isna(value) else value) == other[name], name


def test_addresses_of_both_sides_can_be_compared() -> None:
    frame = schema.from_columns("flows", samples.flows(50))
    assert (frame.client_addr == frame.server_addr).dtype == bool
    assert "2001:db8::1" in frame.client_addr.cat.categories


def test_empty_tables_have_their_dtypes() -> None:
    frame = schema.from_columns("flows", samples.flows(0))
    schema.validate("flows", frame)
    assert len(frame) == 0
    assert schema.to_arrow("flows", samples.flows(0)).num_rows == 0


def test_parts_and_selections_equal_the_whole() -> None:
    whole = samples.flows(1000)
    rows = schema.to_arrow("flows", whole).to_pylist()
    parts = [row for part in whole.parts(300) for row in schema.to_arrow("flows", part).to_pylist()]
    assert parts == rows
    chosen = numpy.array([3, 4, 500, 999])
    assert schema.to_arrow("flows", whole.take(chosen)).to_pylist() == [rows[i] for i in chosen]
    mask = numpy.zeros(1000, bool)
    mask[chosen] = True
    assert schema.to_arrow("flows", whole.take(mask).part(1, 3)).to_pylist() == [rows[4], rows[500]]
    assert schema.to_arrow("flows", whole.take(mask).take([1, 3])).to_pylist() == [rows[4], rows[999]]


def test_columns_are_made_only_where_they_are_asked_for() -> None:
    made: list[tuple[int, int]] = []

    def make(start: int, stop: int) -> numpy.ndarray:
        made.append((start, stop))
        return numpy.arange(start, stop)

    columns = Columns("flows", 100_000, {"stream": make})
    assert not made
    assert columns.take([7, 99_000])["stream"].tolist() == [7, 99_000]
    assert made == [(7, 8), (99_000, 99_001)]
    assert columns.take([])["stream"].tolist() == []


def test_labels_of_scattered_rows_keep_their_texts() -> None:
    def make(start: int, stop: int) -> Coded:
        return Coded(numpy.arange(stop - start) % 2, [f"even {start}", f"odd {start}"])

    coded = Columns("flows", 20_000, {"history": make}).take([0, 1, 19_999])["history"]
    assert [coded.values[code] for code in coded.codes] == ["even 0", "odd 0", "even 19999"]


def test_a_missing_column_is_null_if_it_may_be() -> None:
    columns = Columns("events", 1, {"stream": [1], "endpoint": [0], "time": [0], "event": Coded([0], ["x"])})
    assert schema.from_columns("events", columns).detail.isna().all()
    with pytest.raises(ObserverError, match="lacks the columns event"):
        schema.from_columns("events", Columns("events", 1, {"stream": [1], "endpoint": [0], "time": [0]}))


def test_validate_names_what_differs() -> None:
    frame = schema.from_columns("flows", samples.flows(3))
    frame["client_port"] = frame["client_port"].astype(object)
    frame["extra"] = 1
    with pytest.raises(ObserverError, match=r"client_port is object, not uint16; column extra is not declared"):
        schema.validate("flows", frame)
    with pytest.raises(ObserverError, match="column stream is missing"):
        schema.validate("flows", frame.drop(columns="stream"))
    with pytest.raises(OptionError, match="there is no table 'nonsense'"):
        schema.table("nonsense")


def test_addresses_are_told_as_text() -> None:
    texts = ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "255.255.255.255", "::"]
    addresses = Addresses.of(texts)
    assert addresses.texts() == ["10.0.0.1", "2001:db8::1", "::ffff:a00:1", "255.255.255.255", "::"] or (
        addresses.texts() == texts
    )
    assert len(addresses) == 5 and addresses.text(3) == "255.255.255.255"


def test_importing_the_schema_costs_nothing_heavy() -> None:
    code = (
        "import observer.schema, sys; print([m for m in ('pandas', 'pyarrow', 'numpy', 'numba') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
