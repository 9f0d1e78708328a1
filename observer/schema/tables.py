"""The tables: which columns each has, in order, and what they mean.

Never here: how a column is built or written.  Sources: DESIGN.md's promised names; each column names its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from observer.errors import OptionError
from observer.schema.declare import (
    CALLS,
    CERTAINTIES,
    CONN_STATES,
    ENDINGS,
    ENDPOINTS,
    FLAGS,
    GRADES,
    MARKS,
    ROLES,
    SEVERITIES,
    SIDES,
    STATES,
    TAPS,
    Column,
    Table,
    address_column,
    bits_column,
    bool_column,
    each,
    enum_column,
    int_column,
    label_column,
    text_column,
    time_column,
)
from observer.segments import ENCAPSULATIONS

_STREAM: Final = int_column(
    "stream", "uint32", "Number of the connection, as in the Wireshark filter tcp.stream eq N", "", "Wireshark"
)
_STREAM_OR_NULL: Final = replace(_STREAM, dtype="UInt32", nullable=True, doc="Number of the connection, if it is one")
_PLACE: Final = (
    address_column("client_addr", "Client, if the row concerns one", nullable=True),
    int_column("client_port", "UInt16", "Its port"),
    address_column("server_addr", "Server, if the row concerns one", nullable=True),
    int_column("server_port", "UInt16", "Its port"),
)
_ZEEK: Final = "Zeek conn.log"
_SHARK: Final = "Wireshark"

FLOWS: Final = Table(
    name="flows",
    doc="One row per connection incarnation, in order of `stream`.",
    columns=(
        _STREAM,
        text_column("community_id", "Community ID, version 1, seed 0", "github.com/corelight/community-id-spec"),
        address_column("client_addr", "Address of the active opener (who sent the SYN)"),
        int_column("client_port", "uint16", "Port of the client"),
        address_column("server_addr", "Address of the passive opener"),
        int_column("server_port", "uint16", "Port of the server"),
        int_column("version", "uint8", "Version of the innermost IP header: 4 or 6"),
        enum_column(
            "roles",
            ROLES,
            "How client and server were told apart: the SYN was seen, or inferred from a SYN-ACK, from the same "
            "listener in other connections, from the better-known port, or from who spoke first",
        ),
        time_column("first_time", "Time of the first segment"),
        time_column("last_time", "Time of the last segment"),
        int_column("first_frame", "int64", "Number of the frame with the first segment", "", _SHARK),
        int_column("last_frame", "int64", "Number of the frame with the last segment", "", _SHARK),
        *each(int_column("{}_packets", "uint32", "Segments sent by the {}", "segments")),
        *each(int_column("{}_octets", "int64", "Payload sent by the {}, retransmissions included", "octets")),
        *each(int_column("{}_unique_octets", "int64", "Payload sent by the {}, each octet counted once", "octets")),
        *each(int_column("{}_retransmitted", "uint32", "Segments that the {} sent again", "segments", _SHARK)),
        *each(
            int_column("{}_out_of_order", "uint32", "Segments of the {} out of order at the tap", "segments", _SHARK)
        ),
        *each(int_column("{}_duplicate_acks", "uint32", "Duplicate ACKs sent by the {}", "segments", _SHARK)),
        *each(
            int_column("{}_zero_windows", "uint32", "Segments in which the {} announced window 0", "segments", _SHARK)
        ),
        *each(int_column("{}_keepalives", "uint32", "Keepalive probes sent by the {}", "segments", _SHARK)),
        int_column("syn_count", "uint32", "SYNs of the opening, repeats included", "segments"),
        int_column("synack_count", "uint32", "SYN-ACKs of the opening, repeats included", "segments"),
        int_column(
            "handshake_ns",
            "Int64",
            "Connect time as the tap saw it: from the first SYN (repeats cost time, too) to the segment that first "
            "acknowledged the SYN-ACK; null if the handshake was not seen or not completed",
            "ns",
        ),
        *each(int_column("{}_rtt_ns", "Int64", "Smallest round trip between the tap and the {}", "ns")),
        *each(int_column("{}_mss", "UInt16", "Maximum segment size that the {} announced", "octets", "RFC 9293 3.7.1")),
        *each(int_column("{}_window_scale", "UInt8", "Window shift that the {} announced", "bits", "RFC 7323 2.2")),
        bool_column("sack", "Selective acknowledgment agreed by both", "RFC 2018"),
        bool_column("timestamps", "Timestamps agreed by both", "RFC 7323 3"),
        bool_column("ecn", "Explicit congestion notification agreed by both", "RFC 3168 6.1.1"),
        bool_column("fast_open", "The SYN carried data under TCP Fast Open, or asked for a cookie", "RFC 7413"),
        *each(enum_column("{}_state", STATES, "State of the {} at the end", "RFC 9293 3.3.2")),
        *each(enum_column("{}_certainty", CERTAINTIES, "How the state of the {} is known")),
        enum_column("closed_first", SIDES, "Who sent the first FIN, or both at once; null: nobody", nullable=True),
        enum_column(
            "ended",
            ENDINGS,
            "How it ended: fin (both closed), reset, timeout (given up without a word), open (it had not ended)",
        ),
        enum_column("rst_sender", SIDES, "Who sent a RST that was accepted; null: nobody", "RFC 5961 3", nullable=True),
        enum_column(
            "time_wait_holder", SIDES, "Who is, or was, in TIME-WAIT; null: nobody", "RFC 9293 3.4.2", nullable=True
        ),
        enum_column("tap", TAPS, "Where the capture was made, as far as this connection tells", nullable=True),
        enum_column("tap_grade", GRADES, "How sure `tap` is", nullable=True),
        int_column("completeness", "uint8", "Sum of 1 SYN, 2 SYN-ACK, 4 ACK, 8 data, 16 FIN, 32 RST", "", _SHARK),
        enum_column("conn_state", CONN_STATES, "Summary of the connection in Zeek's words", _ZEEK),
        label_column("history", "What happened, one letter each, upper case by the originator", _ZEEK),
        int_column("previous_stream", "UInt32", "The connection before it on the same addresses and ports; null: none"),
        bits_column("encapsulation", ENCAPSULATIONS, "Everything between the frame and the innermost IP header"),
        label_column("file", "File of the first segment", nullable=True),
    ),
)

TRANSITIONS: Final = Table(
    name="transitions",
    doc="One row per change of one endpoint's state, in time order; leave out retracted rows to fold in hindsight.",
    columns=(
        _STREAM,
        enum_column("endpoint", ENDPOINTS, "Whose state changed"),
        time_column("time", "When"),
        int_column("frame", "Int64", "The frame that tells; null: a timer", "", _SHARK),
        enum_column("from_state", STATES, "State before", "RFC 9293 3.3.2"),
        enum_column("to_state", STATES, "State after", "RFC 9293 3.3.2"),
        label_column("cause", "The event, as `observer states` lists it"),
        enum_column(
            "certainty",
            CERTAINTIES,
            "sent: the endpoint itself sent it; acknowledged: something it sent later proves it; assumed: it passed "
            "the tap and nothing yet shows that it arrived; timer: a clock ran out; retracted: contradicted later",
        ),
        int_column("proof_frame", "Int64", "The later frame that proved or retracted it", "", _SHARK),
    ),
)

EVENTS: Final = Table(
    name="events",
    doc="Everything notable that happened to a connection, in time order.",
    columns=(
        _STREAM,
        enum_column("endpoint", ENDPOINTS, "The endpoint concerned: as a rule the sender", nullable=True),
        time_column("time", "When"),
        int_column("frame", "Int64", "The frame; null: a timer", "", _SHARK),
        label_column("event", "What happened"),
        label_column("detail", "More about it", nullable=True),
    ),
)

SKIPPED: Final = Table(
    name="skipped",
    doc="Every frame that yielded no segment, counted by reason, and every damage of a file.",
    columns=(
        label_column("file", "The file", nullable=True),
        label_column("reason", "Short name of the reason"),
        label_column("explanation", "The reason as a sentence"),
        bool_column("damage", "Whether something that should have been decoded could not be (ARP or UDP is no damage)"),
        int_column("frames", "int64", "Frames skipped for this reason; 0: damage between frames", "frames"),
        int_column("octets", "Int64", "Their length on the wire; null: not counted", "octets"),
        int_column("first_frame", "Int64", "The first of them", "", _SHARK),
        int_column("last_frame", "Int64", "The last of them", "", _SHARK),
        int_column("offset", "Int64", "Where in the file the damage begins", "octets"),
    ),
)

PACKETS: Final = Table(
    name="packets",
    doc="Segments of chosen connections in capture order, with both endpoints' states after each, in hindsight.",
    columns=(
        _STREAM,
        int_column("frame", "int64", "Number of the frame", "", _SHARK),
        time_column("time", "Time of the frame"),
        enum_column("direction", ENDPOINTS, "Who sent it"),
        int_column("seq", "uint32", "Sequence number relative to the sender's first", "octets", _SHARK),
        int_column("ack", "UInt32", "Acknowledgment relative to the receiver's first; null without ACK flag", "octets"),
        int_column("length", "int64", "Payload", "octets"),
        int_column("window", "int64", "Window, scaled where the scale is known", "octets", "RFC 7323 2.2"),
        bits_column("flags", FLAGS, "Flags", "RFC 9293 3.1"),
        bits_column("label", MARKS, "What the sequence analysis says", _SHARK),
        *each(enum_column("{}_state", STATES, "State of the {} after it", "RFC 9293 3.3.2")),
        *each(enum_column("{}_certainty", CERTAINTIES, "How that state is known")),
        int_column("mss", "UInt16", "Maximum segment size option", "octets", "RFC 9293 3.7.1"),
        int_column("sack_left", "UInt32", "Left edge of the first SACK block, relative", "octets", "RFC 2018"),
        int_column("sack_right", "UInt32", "Right edge of the first SACK block, relative", "octets", "RFC 2018"),
        int_column("ts_value", "UInt32", "Timestamp value", "", "RFC 7323 3"),
        int_column("ts_echo", "UInt32", "Timestamp echo reply", "", "RFC 7323 3"),
        int_column("ttl", "UInt8", "Time to live or hop limit", "hops"),
    ),
)

FINDINGS: Final = Table(
    name="findings",
    doc="What is wrong, or worth knowing: one row per finding, the worst first.",
    columns=(
        label_column("code", "Code of the finding"),
        enum_column("severity", SEVERITIES, "How bad it is"),
        enum_column("grade", GRADES, "How sure it is"),
        _STREAM_OR_NULL,
        enum_column("endpoint", ENDPOINTS, "The endpoint at fault or concerned", nullable=True),
        *_PLACE,
        label_column("cause", "The likeliest cause", nullable=True),
        time_column("begin", "When it began", nullable=True),
        time_column("end", "When it ended; null: it had not", nullable=True),
        Column(name="frames", kind="frames", dtype="object", doc="Frame numbers of the evidence", source=_SHARK),
        text_column("summary", "One sentence a person understands"),
        text_column("remedy", "What to do about it", nullable=True),
        text_column("unknown", "What this tap cannot tell", nullable=True),
    ),
)

RESETS: Final = Table(
    name="resets",
    doc="Every RST of a connection, with its class, in the order of the capture.",
    columns=(
        _STREAM,
        enum_column("endpoint", ENDPOINTS, "In whose name it was sent"),
        time_column("time", "When"),
        int_column("frame", "int64", "Number of the frame", "", _SHARK),
        label_column("class", "What kind of reset it is: a finding's code or cause, or what remains"),
        bool_column("from_socket", "RST,ACK: from a live socket (or in answer to a SYN); else bare, from no socket"),
        bool_column("acceptable", "Whether its receiver can have accepted it", "RFC 5961 3.2"),
        text_column("facts", "What it looks like and how its numbers stand to what was sent before"),
        text_column("votes", "What speaks for its not being its pretended sender's", nullable=True),
    ),
)

SOCKET_CALLS: Final = Table(
    name="calls",
    doc="What the applications' socket calls did, as far as the wire tells.",
    columns=(
        _STREAM,
        enum_column("endpoint", ENDPOINTS, "Whose call"),
        enum_column("call", CALLS, "The call"),
        label_column("outcome", "ok, eof, blocked, or the name of an errno", "POSIX"),
        time_column("time", "When it returned, or began to block", nullable=True),
        int_column("frame", "Int64", "The frame that tells", "", _SHARK),
        enum_column("certainty", CERTAINTIES, "How that is known"),
        text_column("summary", "One sentence a person understands"),
    ),
)

POPULATION: Final = Table(
    name="population",
    doc="Number of endpoints in each state over time, one row per change.",
    columns=(
        time_column("time", "From when on"),
        label_column("scope", "listener (address and port) or host (address)"),
        address_column("addr", "The host or the listener's address"),
        int_column("port", "UInt16", "The listener's port; null for hosts"),
        enum_column("endpoint", ENDPOINTS, "Which side of the connections is counted"),
        enum_column("state", STATES, "The state", "RFC 9293 3.3.2"),
        int_column("count", "int64", "Endpoints in that state", "endpoints"),
    ),
)

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (FLOWS, TRANSITIONS, EVENTS, SKIPPED, PACKETS, FINDINGS, RESETS, SOCKET_CALLS, POPULATION)
}


def table(name: str) -> Table:
    """Return the table of that name, or raise OptionError."""
    if name not in TABLES:
        raise OptionError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    return TABLES[name]
