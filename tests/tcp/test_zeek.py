"""Zeek's conn_state and history: rule by rule on made segments, then against Zeek's own conn.log baselines."""

from __future__ import annotations

import ctypes
import random
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy
import pytest
import zeek_driver as driver
from llvmlite import binding as llvm

from observer import segments as seg
from observer import translate
from observer.kernels import Int64s, address_of, kinds_of
from observer.tcp import layout, zeek, zeek_cells

CLIENT_ISS, SERVER_ISS = 1000, 5000
FLAG_OF = {"S": seg.SYN, "F": seg.FIN, "R": seg.RST, "A": seg.ACK_FLAG, "P": seg.PSH}


def segment(text: str, **cells: int) -> dict[int, int]:
    """A row from text: sender (> client, < server), flags, relative seq, relative ack, payload octets.

    Relative numbers count from the initial sequence numbers, so the SYN is 0.
    """
    sender, flags, seq, ack, length = (text.split() + ["0"] * 5)[:5]
    forth = sender == ">"
    mine, other = (CLIENT_ISS, SERVER_ISS) if forth else (SERVER_ISS, CLIENT_ISS)
    ports = (40000, 7777) if forth else (7777, 40000)
    row = {seg.SRC_PORT: ports[0], seg.DST_PORT: ports[1], seg.WINDOW: 1000, seg.LENGTH: int(length)}
    row[seg.FLAGS] = sum(FLAG_OF[letter] for letter in flags)
    row[seg.SEQ] = (mine + int(seq)) & 0xFFFFFFFF
    row[seg.ACK] = (other + int(ack)) & 0xFFFFFFFF if "A" in flags else 0
    return row | {getattr(seg, name): value for name, value in cells.items()}


def fill(rows: list[dict[int, int]], gap_ns: int = 1_000_000) -> numpy.ndarray:
    """The rows as an array, one `gap_ns` after the other unless they carry a TIME."""
    table = numpy.zeros(max(len(rows), 1) * seg.STRIDE, numpy.int64)
    for s, row in enumerate(rows):
        for column, value in ({seg.TIME: 10**18 + s * gap_ns} | row).items():
            table[s * seg.STRIDE + column] = value
    return table


def observe(rows: list[dict[int, int]], *, short_way: bool = True, flow_bits: int = 0) -> numpy.ndarray:
    """The flow's row after all segments; its first block is the sender's of the first segment."""
    columns, flow = memoryview(fill(rows)), numpy.zeros(layout.FLOW_STRIDE, numpy.int64)
    flow[layout.Z_FLOW] = flow_bits
    for s, row in enumerate(rows):
        forth = row[seg.SRC_PORT] == rows[0][seg.SRC_PORT]
        x, y = (layout.CLIENT, layout.SERVER) if forth else (layout.SERVER, layout.CLIENT)
        if not (short_way and zeek.zeek_is_plain(memoryview(flow), x, y, columns, s * seg.STRIDE)):
            zeek.zeek_segment(memoryview(flow), 0, x, y, columns, s * seg.STRIDE, int(forth))
    return flow


def result(rows: list[dict[int, int]], **options: int) -> tuple[str, str]:
    """(conn_state, history)."""
    flow = memoryview(observe(rows, **options))
    state = zeek.CONN_STATES[zeek.zeek_conn_state(flow, 0, layout.CLIENT, layout.SERVER)]
    return state, zeek.zeek_history(flow[layout.Z_HISTORY : layout.Z_HISTORY + 4])


def of(*texts: str) -> tuple[str, str]:
    return result([segment(text) for text in texts])


OPEN = ("> S", "< SA 0 1", "> A 1 1")


@pytest.mark.parametrize(
    ("texts", "state", "history"),
    [
        (("> S",), "S0", "S"),
        (("> S", "> S"), "S0", "S"),
        (("> S", "> A 1 1", "> AP 1 1 9"), "S0", "SAD"),  # one direction captured
        (("> S", "< SA 0 1"), "S1", "Sh"),
        (OPEN, "S1", "ShA"),
        ((*OPEN, "> FA 1 1", "< FA 1 2", "> A 2 2"), "SF", "ShAFf"),
        ((*OPEN, "> FA 1 1 5", "< FA 1 7"), "SF", "ShAFf"),  # a FIN with payload is an F only
        ((*OPEN, "> FA 1 1", "< A 1 2"), "S2", "ShAFa"),
        ((*OPEN, "< FA 1 1"), "S3", "ShAf"),
        (("> S", "< RA 0 1"), "REJ", "Sr"),
        ((*OPEN, "< R 1", "> R 1"), "REJ", "ShArR"),  # both reset without an octet
        ((*OPEN, "> AP 1 1 9", "< R 1", "> R 10"), "RSTR", "ShADrR"),
        ((*OPEN, "> R 1"), "RSTO", "ShAR"),
        ((*OPEN, "< RA 1 1"), "RSTR", "ShAr"),
        (("> S", "> R 1"), "RSTOS0", "SR"),
        (("> S", "< A 77 1", "> R 1"), "RSTOS0", "SaR"),
        (("> S", "> A 1 1", "> R 1"), "OTH", "SAR"),
        (("> S", "> FA 1 1"), "SH", "SF"),
        (("> R 1",), "OTH", "R"),
        (("> A 1 1", "< R 1"), "RSTRH", "Ar"),
        (("> A 1 1", "< A 1 1"), "OTH", "Aa"),
        (("> AP 1 1 9", "< FA 1 10", "> FA 10 2"), "SF", "DfF"),
        ((*OPEN, "> FA 1 1", "< FA 1 2", "> R 2"), "SF", "ShAFfR"),  # RST after both FINs
        ((*OPEN, "> FA 1 1", "> R 2", "< FA 1 2"), "SF", "ShAFRf"),  # FIN, RST, the other FIN
        (("> SF",), "SH", "Q"),
        (("> FR 1",), "OTH", "I"),
        (("> S", "< S"), "S1", "Ss"),  # simultaneous open
    ],
)
def test_states_and_letters(texts: tuple[str, ...], state: str, history: str) -> None:
    assert of(*texts) == (state, history)


def test_syn_fin_rst_again_at_other_numbers_only() -> None:
    assert of(*OPEN, "> FA 1 1", "> FA 1 1", "> FA 9 1")[1] == "ShAFF"
    assert of(*OPEN, "< R 1", "< R 1", "< R 2")[1] == "ShArr"


def test_once_per_direction() -> None:
    assert of(*OPEN, "> A 1 1 3", "< A 1 4 3", "> A 4 4", "< A 4 4", "> A 4 4 3")[1] == "ShADda"


def test_retransmissions_at_1_10_100() -> None:
    data = [segment("> AP 1 1 9")]
    opened = [segment(text) for text in OPEN]
    assert result(opened + data)[1] == "ShAD"
    assert result(opened + 2 * data)[1] == "ShADT"
    assert result(opened + 10 * data)[1] == "ShADT"
    assert result(opened + 11 * data)[1] == "ShADTT"
    assert result(opened + 101 * data)[1] == "ShADTTT"


def test_zero_windows() -> None:
    opened = [segment(text) for text in OPEN]
    closed = [segment("< A 1 1", WINDOW=0)]
    assert result(opened + closed)[1] == "ShAaw"
    assert result(opened + 10 * closed)[1] == "ShAaww"
    # boring with a RST, and after the peer's FIN
    assert result([*opened, segment("< RA 1 1", WINDOW=0)])[1] == "ShAr"
    assert result([*opened, segment("> FA 1 1"), segment("< A 1 2", WINDOW=0)])[1] == "ShAFa"


def test_gaps_are_noted_when_acknowledged() -> None:
    assert of(*OPEN, "< A 101 1 50")[1] == "ShAd"
    assert of(*OPEN, "< A 101 1 50", "> A 1 151")[1] == "ShAdg"
    # filled in time: retransmitted, but no gap
    assert of(*OPEN, "< A 101 1 50", "< A 1 1 100", "> A 1 151")[1] == "ShAdt"
    # nothing was captured of it at all
    assert of(*OPEN, "> A 1 151")[1] == "ShAg"
    # a FIN is no octet
    assert of(*OPEN, "< A 1 1 9", "< FA 10 1", "> A 1 11")[1] == "ShAdf"
    # not in a connection whose begin is missing
    assert of("> A 1 1", "< A 1 1 9", "< A 500 1 9", "> A 1 509")[1] == "Ad"


def test_two_holes_are_one_letter_until_ten() -> None:
    texts = [*OPEN]
    for i in range(9):
        texts += [f"< A {200 * i + 101} 1 100", f"> A 1 {200 * i + 201}"]
    assert of(*texts)[1] == "ShAdg"
    assert of(*texts, "< A 1901 1 100", "> A 1 2001")[1] == "ShAdgg"


def test_wrong_checksums_count_and_do_nothing_else() -> None:
    bad = segment("< FA 1 1", OPTIONS=seg.BAD_CHECKSUM)
    opened = [segment(text) for text in OPEN]
    assert result([*opened, bad]) == ("S1", "ShAc")
    assert result(opened + 10 * [bad]) == ("S1", "ShAcc")
    assert result([*opened, bad], flow_bits=zeek.Z_IGNORE_CHECKSUMS) == ("S3", "ShAf")


def test_cut_header_is_nothing() -> None:
    assert result([segment("> S"), segment("> R 1", OPTIONS=seg.CUT_HEADER)]) == ("S0", "S")


@pytest.mark.parametrize(
    ("flags", "src", "dst", "history"),
    [
        ("A", 443, 40000, "^a"),
        ("A", 40000, 443, "A"),
        ("A", 80, 443, "^a"),  # both plausible: the smaller one is the server's
        ("A", 443, 80, "A"),
        ("SA", 80, 443, "H"),  # both plausible and a SYN-ACK: perhaps a scan
        ("SA", 443, 40000, "^h"),
        ("S", 443, 40000, "S"),
        ("R", 80, 40000, "^r"),
    ],
)
def test_roles_by_ports(flags: str, src: int, dst: int, history: str) -> None:
    assert result([segment(f"> {flags} 1 1", SRC_PORT=src, DST_PORT=dst)])[1] == history


def test_syn_ack_first_is_flipped_by_ack_or_data() -> None:
    assert of("< SA 0 1")[1] == "H"
    assert of("< SA 0 1", "> A 1 1") == ("S1", "^hA")
    assert of("< SA 0 1", "< A 1 60", "< FA 1 61") == ("SHR", "^haf")
    assert of("< SA 0 1", "> R 1")[1] == "Hr"


def test_syn_after_syn_ack_is_flipped() -> None:
    assert of("< SA 0 1", "> S", "> A 1 1", "> A 1 1 9") == ("S1", "Hs^AD")


def test_record_is_final_five_seconds_after_the_close() -> None:
    ended = [segment(text) for text in (*OPEN, "> FA 1 1", "< FA 1 2", "> A 2 2")]
    late = [segment("< R 2", TIME=10**18 + ns) for ns in (4_900_000_000, 5_100_000_000)]
    assert result([*ended, late[0]]) == ("SF", "ShAFfr")
    assert result([*ended, late[1]]) == ("SF", "ShAFf")
    flow = observe([*ended, late[1]])
    assert zeek.zeek_is_over(memoryview(flow), 0) == 1


def test_unanswered_syn() -> None:
    def at(text: str, seconds: int) -> dict[int, int]:
        return segment(text, TIME=10**18 + seconds * 10**9)

    # one direction was captured: Zeek begins a new record after 5 s
    assert result([at("> S", 0), at("> A 1 1", 1), at("> FA 1 1", 9)]) == ("S0", "SA")
    # a late answer is still this connection
    assert result([at("> S", 0), at("> S", 7), at("< SA 0 1", 8), at("> A 1 1", 9)]) == ("S1", "ShA")


def test_other_connection_on_the_same_ports_is_not_in_it() -> None:
    ended = [segment(text) for text in (*OPEN, "> FA 1 1", "< FA 1 2")]
    assert result([*ended, segment("> S 70000"), segment("< RA 0 70001")]) == ("SF", "ShAFf")


def test_first_letters_are_kept_when_they_are_too_many() -> None:
    rows = [segment(text) for text in OPEN] + [segment(f"< R {i}") for i in range(2, 100)]
    flow = observe(rows)
    history = zeek.zeek_history(flow[layout.Z_HISTORY : layout.Z_HISTORY + 4])
    assert history == "ShA" + "r" * 45
    assert len(history) == zeek_cells.MAX_LETTERS
    assert flow[layout.Z_FLOW] & zeek_cells.Z_FULL


@pytest.mark.parametrize("iss", [2**31 - 5, 2**32 - 5])
def test_numbers_that_wrap(iss: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*OPEN, "< A 1 1 9", "> A 1 10", "< A 20 1 9", "> A 1 29", "< A 20 1 9", "< FA 29 1", "> FA 1 30"]
    expected = of(*texts)
    assert expected == ("SF", "ShAdgtfF")
    monkeypatch.setitem(globals(), "SERVER_ISS", iss)
    assert of(*texts) == expected


def test_plain_test_needs_everything() -> None:
    opened = [segment(text) for text in (*OPEN, "> A 1 1 9", "< A 1 10")]
    cases = {
        "< A 1 10": 1,
        "> A 10 1 9": 1,
        "< A 1 10 5": 0,  # its first payload
        "> A 10 1": 1,
        "> A 1 1 9": 0,  # again
        "> A 30 1 9": 0,  # a hole
        "< A 1 50": 0,  # acknowledges what was not seen
        "> R 10": 0,
        "> FA 10 1": 0,
    }
    for text, expected in cases.items():
        columns = memoryview(fill([*opened, segment(text)]))
        x, y = (layout.CLIENT, layout.SERVER) if text[0] == ">" else (layout.SERVER, layout.CLIENT)
        assert zeek.zeek_is_plain(memoryview(observe(opened)), x, y, columns, len(opened) * seg.STRIDE) == expected, (
            text
        )
    for cells in ({"WINDOW": 0}, {"OPTIONS": seg.BAD_CHECKSUM}):
        columns = memoryview(fill([*opened, segment("> A 10 1 9", **cells)]))
        flow = memoryview(observe(opened))
        assert zeek.zeek_is_plain(flow, layout.CLIENT, layout.SERVER, columns, len(opened) * seg.STRIDE) == 0


def noise(choice: random.Random) -> list[dict[int, int]]:
    """A connection with everything that can happen to it."""
    rows = [segment(text) for text in OPEN[: choice.choice((0, 1, 2, 3, 3, 3))]]
    numbers = {">": 1, "<": 1}
    for _ in range(choice.randrange(1, 30)):
        sender = choice.choice("<>")
        other = ">" if sender == "<" else "<"
        flags = choice.choice(["A"] * 12 + ["FA", "R", "RA", "S", "SA", "FR", "SF", "P", ""])
        length = choice.choice((0, 0, 1, 100, 1400))
        jump = choice.choice([0] * 9 + [-1, -100, 100, 1400, -70000, 2**21, 2**31])
        ack = numbers[other] + choice.choice([0] * 9 + [-50, 50, 2000, 2**31])
        row = segment(f"{sender} {flags or 'P'} {numbers[sender] + jump} {ack} {length}")
        row[seg.WINDOW] = choice.choice((1000, 1000, 1000, 0))
        row[seg.OPTIONS] = choice.choice([0] * 20 + [seg.BAD_CHECKSUM, seg.CUT_HEADER])
        rows.append(row)
        if jump >= 0:
            numbers[sender] += jump + length
    return rows


def significant(flow: numpy.ndarray) -> tuple[object, ...]:
    """What a flow says in the end, holes and counts included."""
    view = memoryview(flow)
    blocks = []
    for block in (layout.CLIENT, layout.SERVER):
        cells = list(flow[block + zeek_cells.Z_FLAGS : block + zeek_cells.Z_FLAGS + 10])
        if cells[0] & zeek_cells.QUICK:
            cells[zeek_cells.Z_DELIVERED - zeek_cells.Z_FLAGS] = 0  # not kept where QUICK is set
        blocks.append(tuple(cells))
    state = zeek.zeek_conn_state(view, 0, layout.CLIENT, layout.SERVER)
    return (*blocks, *flow[layout.Z_HISTORY : layout.Z_FLOW + 1], state)


def test_short_way_changes_nothing() -> None:
    choice = random.Random(2)
    taken = Counter()
    for _ in range(600):
        rows = noise(choice)
        assert significant(observe(rows)) == significant(observe(rows, short_way=False))
        taken[result(rows)[0]] += 1
    assert len(taken) >= 8  # the noise reaches most states


def drive(flows: Int64s, rows: Int64s, begins: Int64s, count: int) -> int:
    """Every flow of a table of noise, for the compiled run: begins holds the first row of each flow and the end."""
    for f in range(count):
        flow = f * layout.FLOW_STRIDE
        first = rows[begins[f] * seg.STRIDE + seg.SRC_PORT] if begins[f + 1] > begins[f] else 0
        for s in range(begins[f], begins[f + 1]):
            forth = 1 if rows[s * seg.STRIDE + seg.SRC_PORT] == first else 0
            x = flow + (layout.CLIENT if forth else layout.SERVER)
            y = flow + (layout.SERVER if forth else layout.CLIENT)
            if not zeek.zeek_is_plain(flows, x, y, rows, s * seg.STRIDE):
                zeek.zeek_segment(flows, flow, x, y, rows, s * seg.STRIDE, forth)
        flows[flow + layout.STREAM] = zeek.zeek_conn_state(flows, flow, flow + layout.CLIENT, flow + layout.SERVER)
    return 0


def compiled(function: Callable[..., int], *arrays: numpy.ndarray) -> tuple[int, int]:
    """(result, cells out of range) of a function translated with bounds checks; its only int is the last argument."""
    translator = translate.Translator(kinds_of, checked=True)
    translator.export(function, "test_entry")
    code = translate.object_code(translator.finish())
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    library = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    library.add_object_file(llvm.ObjectFileRef.from_data(code))
    library.finalize_object()
    errors = ctypes.c_int64.from_address(library.get_global_value_address("out_of_range"))
    errors.value = 0
    words = [word for array in arrays for word in (address_of(array), len(array))]
    types = [ctypes.c_void_p, ctypes.c_int64] * len(arrays) + [ctypes.c_int64]
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *types)(library.get_function_address("test_entry"))
    return int(call(*words, len(arrays[-1]) - 1)), errors.value


def test_compiled_with_bounds_checks_agrees() -> None:
    choice = random.Random(3)
    many = [noise(choice) for _ in range(300)]
    rows = [row for flow in many for row in flow]
    begins = numpy.cumsum([0, *map(len, many)], dtype=numpy.int64)
    columns = fill(rows)
    slow, quick = (numpy.zeros(len(many) * layout.FLOW_STRIDE, numpy.int64) for _ in range(2))
    drive(memoryview(slow), memoryview(columns), memoryview(begins), len(many))
    assert compiled(drive, quick, columns, begins) == (0, 0)
    assert slow.any()
    assert (slow == quick).all()


def test_texts_of_many() -> None:
    cells = numpy.array([observe([segment(text) for text in OPEN])[layout.Z_HISTORY : layout.Z_HISTORY + 4]] * 3)
    assert zeek.zeek_histories(cells) == ["ShA"] * 3
    assert zeek.zeek_histories(cells[:0]) == []


# --- against Zeek ------------------------------------------------------------------------------------------

UNDETERMINED = {
    # (part of the capture's name, column): why TCP alone does not determine Zeek's answer
    ("globus-url-copy", "conn_state"): "Zeek's GridFTP script stops following the data connection",
    ("globus-url-copy", "history"): "Zeek's GridFTP script stops following the data connection",
    ("handshake-reorder", "history"): "run without Zeek's default scripts: port 80 is no likely server port",
    ("vntag_vlan_sandwich", "direction"): "run without Zeek's default scripts: port 443 is no likely server port",
    ("retransmit-fast009", "history"): "the capture has 54 octets of each frame: Zeek takes cut payload for gaps",
}


def pairs_of(truth: list[dict[str, str]], ours: list[dict[str, object]]) -> list[tuple[dict, dict]]:
    """One to one, nearest begin first; a Zeek row without time only where it is alone (as compare.py)."""
    if len(truth) == len(ours) == 1:
        return [(truth[0], ours[0])]
    near = sorted(
        (abs(float(row["ts"]) - flow["first"]), i, j)
        for i, row in enumerate(truth)
        if row["ts"]
        for j, flow in enumerate(ours)
    )
    pairs: list[tuple[dict, dict]] = []
    used: set[tuple[str, int]] = set()
    for _, i, j in near:
        if ("truth", i) not in used and ("ours", j) not in used:
            used |= {("truth", i), ("ours", j)}
            pairs.append((truth[i], ours[j]))
    return pairs


def ends_of(row: dict) -> tuple:
    return tuple(sorted([(row["orig_h"], row["orig_p"]), (row["resp_h"], row["resp_p"])]))


def groups() -> list[tuple[str, list[dict], list[dict]]]:
    """(capture, Zeek's rows, our rows) for every pair of endpoints that Zeek has rows for."""
    by_capture = defaultdict(list)
    for row in driver.truth():
        by_capture[row["pcap"], row["ignore_checksums"]].append(row)
    found = []
    for (capture, ignored), truth in by_capture.items():
        ours = driver.run(capture, ignore_checksums=ignored == "T")
        by_ends = defaultdict(lambda: ([], []))
        for row in truth:
            by_ends[ends_of(row)][0].append(row)
        for row in ours:
            if ends_of(row) in by_ends:
                by_ends[ends_of(row)][1].append(row)
        found += [(capture, *lists) for lists in by_ends.values()]
    return found


def compare(row: dict, flow: dict) -> dict[str, bool]:
    """Column -> agrees; x and X are left out (nothing in TCP shows them)."""
    columns = {"direction": (row["orig_h"], row["orig_p"]) == (flow["orig_h"], flow["orig_p"])}
    if row["conn_state"]:
        columns["conn_state"] = row["conn_state"] == flow["conn_state"]
    history = row["history"].replace("X", "").replace("x", "")
    if history:
        columns["history"] = history == flow["history"]
    return columns


@pytest.mark.skipif(not driver.available(), reason="needs ../shared/corpus and tshark")
def test_agreement_with_zeek(capsys: pytest.CaptureFixture[str]) -> None:
    score: dict[str, Counter[str]] = defaultdict(Counter)
    differ = []
    split = Counter()
    for capture, truth, ours in groups():
        pairs = pairs_of(truth, ours)
        if not pairs:
            # several records of Zeek's for one flow, without times: ours must be the first one
            name = "llc.pcap" if "llc.pcap" in capture else "others"
            split[f"{name}: rows"] += len(truth)
            mine = {(flow["conn_state"], flow["history"]) for flow in ours}
            split[f"{name}: flows that equal one of them"] += bool(
                mine & {(row["conn_state"], row["history"]) for row in truth}
            )
            split[f"{name}: flows"] += len(ours)
        for row, flow in pairs:
            for column, agrees in compare(row, flow).items():
                excused = any(part in capture and column == c for part, c in UNDETERMINED)
                score[column]["all"] += 1
                score[column]["agree"] += agrees
                score[column]["determined"] += not excused
                score[column]["agree, determined"] += agrees and not excused
                if not agrees:
                    differ.append(
                        (capture, column, row["conn_state"], flow["conn_state"], row["history"], flow["history"])
                    )
    with capsys.disabled():
        print("\nagreement with Zeek, flows matched one to one:")
        for column, counts in score.items():
            print(f"  {column:11} {counts['agree']}/{counts['all']}, where TCP determines it ", end="")
            print(f"{counts['agree, determined']}/{counts['determined']}")
        print(f"  flows that Zeek split into several records without times: {dict(split)}")
        for line in differ:
            print("  differs:", *line)
    for column in ("conn_state", "history", "direction"):
        counts = score[column]
        assert counts["determined"] >= 80
        assert counts["agree, determined"] >= 0.98 * counts["determined"], (column, differ)
        assert counts["agree"] >= 0.95 * counts["all"]
    assert split["llc.pcap: rows"] == 1333
    assert split["llc.pcap: flows that equal one of them"] == split["llc.pcap: flows"] == 1
