"""Forgetting connections, and looking at the time: neither changes anything of what is told of the others."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import segments as seg
from observer.errors import ObserverError
from observer.kernels import Checked, Compiled, Engine, Interpreted
from observer.options import Options
from observer.segments import ACK_FLAG, SYN
from observer.tcp import columns, events, layout
from observer.tcp.packed import ones
from observer.tcp.states import CLOSED, EXPIRE, TIME_WAIT
from observer.tcp.tracker import Tracker
from tests.tcp.forgetting import TOLD, Disturbed, assert_kept, assert_same, leave_alone, logs_of, rows_of, run, tables
from tests.tcp.segments import BEGIN, CLIENT, SECOND, SERVER, pack, row, sequences, transitions_of
from tests.tcp.talk import Talk
from tests.tcp.test_reference import EXAMPLES

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*.pcap*"))
Rows = list[list[int]]


@pytest.fixture(scope="module")
def compiled() -> Engine:
    return Compiled()


@pytest.fixture(scope="module")
def checked() -> Engine:
    return Checked()


def kernel_truth(shared: Path) -> list[Path]:
    paths = sorted((shared / "kernel-truth").glob("*.pcap*"))
    if not paths:
        pytest.skip(f"{shared} has no kernel-truth")
    return paths


# --- what disturbs -------------------------------------------------------------------------------------------


def keep_all(disturbed: Disturbed, _done: int) -> None:
    disturbed.forget(numpy.ones(disturbed.tracker.stream_count, bool))


class Forgetful:
    """Forgets what is finished, and some others by chance."""

    def __init__(self, seed: int, share: float) -> None:
        self.random, self.share = random.Random(seed), share

    def __call__(self, disturbed: Disturbed, _done: int) -> None:
        tracker = disturbed.tracker
        finished = tracker.summary().is_finished
        chance = numpy.array([self.random.random() < self.share for _ in finished], bool)
        disturbed.forget(~(finished & (self.random.random() < 0.5)) & ~chance)


class Ticks:
    """Tells the tracker the time behind each batch: the latest that no later segment contradicts."""

    def __init__(self, rows: numpy.ndarray) -> None:
        later = numpy.minimum.accumulate(rows[::-1, seg.TIME])[::-1]
        self.until = [*later.tolist(), None]

    def __call__(self, disturbed: Disturbed, done: int) -> None:
        if self.until[done] is not None:
            disturbed.tracker.finish(self.until[done])
            disturbed.tracker.summary(self.until[done])
            tables(disturbed.tracker)  # reading is no disturbance either


def check_capture(path: Path, engine: Engine, batch: int) -> None:
    rows = rows_of(path)
    calm = run(rows, engine, len(rows) or 1, leave_alone).tracker
    assert_same(run(rows, engine, batch, Ticks(rows)).tracker, calm, path.name)
    for ring in (layout.RING_MAX, 1):
        assert_same(run(rows, engine, batch, keep_all, ring=ring).tracker, calm, path.name)
        for seed in range(2):
            assert_kept(run(rows, engine, batch, Forgetful(seed, 0.2), ring=ring), calm, f"{path.name} {seed}")


# --- over captures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_own_captures(path: Path, compiled: Engine) -> None:
    rows = len(rows_of(path))
    check_capture(path, compiled, max(7, rows // 25))


def test_kernel_truth_captures(shared: Path, compiled: Engine) -> None:
    for path in kernel_truth(shared):
        check_capture(path, compiled, max(5, len(rows_of(path)) // 40))


# --- over sequences that Hypothesis invents ---------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, 2, layout.RING_MAX)))
def test_keeping_all_changes_nothing(rows: Rows, batch: int, ring: int, compiled: Engine, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    for engine in (Interpreted(), compiled, checked):
        assert_same(run(table, engine, batch, keep_all, ring=ring).tracker, expected)


@settings(max_examples=2 * EXAMPLES)
@given(
    rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, 2, layout.RING_MAX)), seed=st.integers(0, 99),
    share=st.sampled_from((0.0, 0.1, 0.5)),
)  # fmt: skip
def test_others_are_told_as_ever(rows: Rows, batch: int, ring: int, seed: int, share: float, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    plain = run(table, Interpreted(), batch, Forgetful(seed, share), ring=ring)
    assert_kept(plain, expected)
    fast = run(table, checked, batch, Forgetful(seed, share), ring=ring)
    assert fast.forgotten == plain.forgotten
    assert_same(fast.tracker, plain.tracker)


@settings(max_examples=2 * EXAMPLES)
@given(rows=sequences, batch=st.integers(1, 9), ring=st.sampled_from((1, layout.RING_MAX)))
def test_looking_at_the_time_changes_nothing(rows: Rows, batch: int, ring: int, checked: Engine) -> None:
    table = pack(rows).reshape(-1, seg.STRIDE)
    expected = run(table, Interpreted(), len(rows), leave_alone).tracker
    for engine in (Interpreted(), checked):
        assert_same(run(table, engine, batch, Ticks(table), ring=ring).tracker, expected)


def test_a_look_amid_plain_segments_changes_nothing() -> None:
    """Plain segments leave the inference's cells behind: whoever looks must neither miss them nor bring them on."""
    talk = Talk()
    talk.open()
    for _ in range(8):
        talk.client.data()
        talk.server.data()
    talk.server.ack()
    begun = len(talk.rows)
    for _ in range(8):
        talk.client.data()
        talk.server.ack()
    assert talk.tracked().flow_rows(0, 1)[0, columns.O_CLIENT + columns.P_UNIQUE] == 100 + 16 * 100
    talk.client.fin()
    talk.server.fin()
    table = pack(talk.rows).reshape(-1, seg.STRIDE)
    calm = run(table, Interpreted(), 1000, leave_alone).tracker
    for batch in (1, 2, 3, begun):
        assert_same(run(table, Interpreted(), batch, Ticks(table)).tracker, calm)


# --- forgetting, case by case -----------------------------------------------------------------------------------


def flood(tracker: Tracker, count: int, frame: int, time: int) -> None:
    """That many SYNs, each from another end."""
    for first in range(0, count, 10_000):
        number = numpy.arange(first, min(first + 10_000, count))
        rows = numpy.tile(numpy.array(row(0, 0, CLIENT, SERVER, SYN, 1000), numpy.int64), (len(number), 1))
        rows[:, seg.TIME], rows[:, seg.FRAME] = time + number, frame + number
        rows[:, seg.SRC + 3], rows[:, seg.SRC_PORT] = 0x0B000000 + number // 60_000, 1 + number % 60_000
        tracker.track(rows.reshape(-1), len(rows))


def conversations(count: int, steps: slice, frame: int) -> numpy.ndarray:
    """Some steps of an open, data, close of that many connections, one after the other."""
    talk = Talk()
    talk.open().client.data()
    talk.server.data()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    pattern = numpy.array(talk.rows, numpy.int64)[steps]
    rows = numpy.tile(pattern, (count, 1))
    number = numpy.repeat(numpy.arange(count), len(pattern))
    for cell in (seg.SRC, seg.DST):
        rows[rows[:, cell + 3] == CLIENT[0][3], cell + 3] += number[rows[:, cell + 3] == CLIENT[0][3]]
    rows[:, seg.FRAME] = frame + numpy.arange(len(rows))
    rows[:, seg.TIME] += number
    return rows


def test_a_flood_is_forgotten_and_its_memory_given_back(compiled: Engine) -> None:
    begun, ended = conversations(3000, slice(0, 6), 1), conversations(3000, slice(6, None), 1_000_000)
    alone, crowded = Tracker(compiled, Options()), Tracker(compiled, Options())
    for tracker in (alone, crowded):
        tracker.track(begun.reshape(-1), len(begun))
    flood(crowded, 200_000, 100_000, int(begun[-1, seg.TIME]))
    before = resident_octets()
    kept = crowded.forget(~crowded.summary().is_lone)
    assert kept.tolist() == list(range(3000))
    assert crowded.forgotten_count == 200_000
    assert crowded.segment_count == 200_000 + len(begun)
    if before:  # 200,000 rows of 128 octets, and slots
        assert before - resident_octets() > 20_000_000
    for tracker in (alone, crowded):
        tracker.track(ended.reshape(-1), len(ended))
        tracker.finish(int(ended[-1, seg.TIME]) + 100 * SECOND)
    for mine, theirs in zip(tables(crowded)[:-1], tables(alone)[:-1], strict=True):
        assert numpy.array_equal(mine, theirs)
    flood(crowded, 50_000, 2_000_000, int(ended[-1, seg.TIME]))  # into memory that was given back
    assert crowded.stream_count == 53_000
    assert numpy.array_equal(crowded.flow_rows(0, 3000)[:, TOLD], alone.flow_rows(0, 3000)[:, TOLD])


def resident_octets() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    import mmap

    return pages * mmap.PAGESIZE


def test_packed_flows_and_open_ones_change_places(compiled: Engine) -> None:
    """More of each than small tables hold, every third kept: blocks of the log and rows move by all distances."""
    every, steps = 6000, conversations(6000, slice(None), 1)
    rows = steps.reshape(every, -1, seg.STRIDE)
    rows = numpy.concatenate([rows[:, :6].reshape(-1, seg.STRIDE), rows[: every // 2, 6:].reshape(-1, seg.STRIDE)])
    rows[:, seg.FRAME] = numpy.arange(1, len(rows) + 1)
    undisturbed = run(rows, compiled, 1000, leave_alone).tracker
    for chosen in (lambda number: number % 3 == 0, lambda number: number % 3 > 0, lambda number: number < 100):

        def forget_others(disturbed: Disturbed, done: int, chosen=chosen) -> None:  # type: ignore[no-untyped-def]
            if done % 7000 == 0:
                disturbed.forget(chosen(numpy.arange(disturbed.tracker.stream_count)))

        assert_kept(run(rows, compiled, 1000, forget_others), undisturbed)


def test_the_incarnation_before_an_opening_is_kept() -> None:
    talk = Talk()
    talk.open()
    talk.wait(100).client.syn(new=True)
    tracker = talk.tracked()
    assert tracker.forget(numpy.array([False, True])).tolist() == [0, 1]
    # an old incarnation's ACK answers; the opener resets that, which says that it was there
    talk = Talk()
    talk.open()
    talk.client.syn(new=True)
    talk.server.synack()
    talk.client.ack()
    tracker = talk.tracked()
    assert tracker.forget(numpy.array([False, True])).tolist() == [1]
    rows = tracker.flow_rows(0, 1)
    assert rows[0, columns.O_PREVIOUS] == -1
    told = tracker.event_rows()
    reused = told[told[:, events.EV_CODE] == events.NEW_INCARNATION]
    assert reused[:, events.EV_DETAIL].tolist() == [events.UNTOLD]


def test_a_forgotten_forerunner_is_still_known_to_have_been() -> None:
    """Of a stream of one segment all is told from that segment and from whether there was one before it."""
    talk = Talk()
    talk.client.syn()
    talk.wait(100).client.syn(new=True)
    tracker = talk.tracked()
    expected = tracker.flow_rows(1, 2)[0, TOLD].tolist()
    expected[TOLD.index(columns.O_PREVIOUS)] = -1
    assert tracker.forget(numpy.array([False, True])).tolist() == [1]
    assert tracker.flow_rows(0, 1)[0, TOLD].tolist() == expected
    (told,) = tracker.event_rows().tolist()
    assert (told[events.EV_CODE], told[events.EV_DETAIL]) == (events.NEW_INCARNATION, events.UNTOLD)


def test_an_old_incarnation_is_reset_only_if_its_time_is_not_over() -> None:
    """The new opening is challenged at 59 s of TIME-WAIT, and answered at 62 s: whoever looks at 61 s finds it over."""
    talk = Talk()
    talk.open()
    talk.server.fin()
    talk.client.ack()
    talk.client.fin()
    talk.server.ack()
    begun = talk.now
    talk.wait(59).client.syn(new=True)
    talk.server.send(ACK_FLAG, talk.server.next, ack=1301)
    talk.wait(3).client.bare_reset(seq=1301)
    table = pack(talk.rows).reshape(-1, seg.STRIDE)
    calm = run(table, Interpreted(), 1, leave_alone).tracker
    assert begun + 61 * SECOND < int(table[-1, seg.TIME])
    assert_same(run(table, Interpreted(), 1, Ticks(table)).tracker, calm)
    old = [line for line in transitions_of(calm) if line[:2] == (0, 1)]
    assert [line[4:7] for line in old][-1] == (TIME_WAIT, CLOSED, EXPIRE)
    assert events.OLD_RESET in calm.event_rows()[:, events.EV_CODE]


def test_an_opening_after_a_refusal_stays_sealed() -> None:
    """The log of a stream that opened twice has a place where folding starts, and it moves with the log."""
    talk = Talk()
    talk.client.syn()
    talk.server.reset()
    talk.client.syn()
    elsewhere = conversations(1, slice(None), 1)
    elsewhere[:, [seg.SRC_PORT, seg.DST_PORT]] += 1000
    disturbed = Disturbed(Tracker(Interpreted(), Options()))
    for rows in (elsewhere, pack(talk.rows).reshape(-1, seg.STRIDE)):
        disturbed.tracker.track(rows.reshape(-1), len(rows))
    (_, ((_, _, (start, _, seal), _), _)) = logs_of(disturbed.tracker).values()
    assert start == 2
    assert seal == 1
    disturbed.forget(numpy.array([False, True]))  # compares the logs
    talk.client.again()
    talk.server.synack()
    talk.client.data()
    rest = pack(talk.rows[3:]).reshape(-1, seg.STRIDE)
    disturbed.tracker.track(rest.reshape(-1), len(rest))
    assert transitions_of(disturbed.tracker) == transitions_of(talk.tracked())


def test_a_forgotten_pair_opens_a_new_stream() -> None:
    talk = Talk()
    talk.open()
    tracker = talk.tracked()
    assert tracker.forget(numpy.array([False])).tolist() == []
    assert (tracker.stream_count, tracker.flow_count, len(tracker.event_rows())) == (0, 0, 0)
    tracker.track(pack(talk.rows[-2:]), 2)
    assert tracker.stream_count == 1
    assert tracker.segment_count == len(talk.rows) + 2


def test_old_events_can_be_forgotten_alone() -> None:
    talk = Talk()
    talk.open()
    for _ in range(5):
        talk.wait(30).client.keepalive()
        talk.server.ack()
    tracker = talk.tracked()
    frames = tracker.event_rows()[:, events.EV_FRAME]
    middle = int(numpy.median(frames))
    rows = tracker.flow_rows(0, 1).copy()
    tracker.forget(numpy.ones(1, bool), events_from=middle)
    assert tracker.event_rows()[:, events.EV_FRAME].tolist() == [frame for frame in frames.tolist() if frame >= middle]
    assert numpy.array_equal(tracker.flow_rows(0, 1), rows)


def test_keep_says_of_every_stream() -> None:
    with pytest.raises(ObserverError, match="2 streams"):
        Tracker(Interpreted(), Options()).forget(numpy.ones(2, bool))


# --- a look at all ------------------------------------------------------------------------------------------------


@given(st.integers(0, (1 << 62) - 1))
def test_bits_are_counted(word: int) -> None:
    assert ones(word) == word.bit_count()


@settings(max_examples=EXAMPLES)
@given(rows=sequences, ring=st.sampled_from((1, layout.RING_MAX)), wait=st.sampled_from((0, 1, 30, 61, 200)))
def test_a_summary_agrees_with_the_tables(rows: Rows, ring: int, wait: int, checked: Engine) -> None:
    for engine in (Interpreted(), checked):
        tracker = Tracker(engine, Options())
        tracker.g[layout.G_RING_SIZE] = ring
        tracker.track(pack(rows), len(rows))
        now = tracker.now + wait * SECOND
        tracker.finish(now)
        told = tracker.summary(now, since_frame=len(rows) // 2)
        table = tracker.flow_rows(0, tracker.stream_count)
        assert told.last_time.tolist() == table[:, columns.O_LAST_TIME].tolist()
        assert told.last_frame.tolist() == table[:, columns.O_LAST_FRAME].tolist()
        packets = table[:, [columns.O_CLIENT + columns.P_PACKETS, columns.O_SERVER + columns.P_PACKETS]]
        flow = tracker.streams.cells[layout.S_FLOW :: layout.STREAM_STRIDE][: tracker.stream_count]
        assert told.is_lone.tolist() == (flow == 0).tolist()
        states = table[:, [columns.O_CLIENT + columns.P_STATE, columns.O_SERVER + columns.P_STATE]]
        over = ((states == CLOSED).all(1)) & (flow != 0)
        assert told.is_finished.tolist() == over.tolist()
        assert told.is_one_sided.tolist() == ((packets == 0).any(1) & (flow >= 0)).tolist()
        assert not (told.is_finished & told.is_embryonic).any()
        assert told.is_changed[told.last_frame >= len(rows) // 2].all()


def test_who_is_half_born_and_who_is_over() -> None:
    talk = Talk()
    talk.client.syn()
    assert kinds(talk) == "lone embryonic one_sided"
    talk.server.synack()
    assert kinds(talk) == "embryonic"
    talk.client.ack()
    assert kinds(talk) == ""
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    tracker = talk.tracked()
    assert tracker.flow_rows(0, 1)[0, columns.O_CLIENT + columns.P_STATE] == TIME_WAIT
    assert kinds(talk) == ""
    talk.wait(61)
    assert kinds(talk) == "finished"


def kinds(talk: Talk) -> str:
    told = talk.tracked().summary(talk.now)
    return " ".join(name for name in ("lone", "embryonic", "one_sided", "finished") if getattr(told, f"is_{name}")[0])


def test_what_time_and_others_change_is_told() -> None:
    talk = Talk()
    talk.open()
    talk.client.fin()
    talk.server.fin()
    talk.client.ack()
    tracker = Tracker(Interpreted(), Options())
    tracker.track(pack(talk.rows), len(talk.rows))
    later = talk.frame + 1
    assert tracker.summary(talk.now).is_changed.tolist() == [True]  # from frame 0 on
    assert tracker.summary(talk.now, since_frame=later).is_changed.tolist() == [False]
    tracker.finish(talk.now + 61 * SECOND)  # TIME-WAIT is over
    assert tracker.summary(since_frame=later).is_changed.tolist() == [True]
    assert tracker.summary(since_frame=later).is_changed.tolist() == [False]
    tracker = Tracker(Interpreted(), Options())
    tracker.track(pack([row(BEGIN, 1, SERVER, CLIENT, SYN | ACK_FLAG, 7, 8)]), 1)
    soon, late = BEGIN + SECOND, BEGIN + 2 * SECOND
    assert tracker.summary(soon, since_frame=2, since_ns=BEGIN).is_changed.tolist() == [False]
    assert tracker.summary(late, since_frame=2, since_ns=soon).is_changed.tolist() == [True]  # it was stateless
    assert tracker.summary(late + 1, since_frame=2, since_ns=late).is_changed.tolist() == [False]
