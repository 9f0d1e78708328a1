"""Where a flow's memory stands: one row of int64 cells for each flow, two endpoint blocks inside.

Cell names without prefix belong to the flow; `E_` to an endpoint (add the endpoint's block), `A_` are the
endpoint's cells of `analysis.py`, `Z_` those of `zeek.py`.  A row starts as zeros, so every cell means
"nothing yet" at 0; sequence numbers are only valid when their flag in E_FLAGS (or A_FLAGS) says so.

Three more tables stand beside the flows: `streams` (one row per tcp.stream: its key and its first segment,
which is all that a SYN flood ever needs), `log` (the endpoints' event logs, see evidence.py) and `events`
(what is worth telling, see events.py).  Array `g` holds counters, settings and the state machine.

This module never computes: it only says where things stand.
"""

from __future__ import annotations

from typing import Final

# --- the flow ----------------------------------------------------------------------------------------
FLOW_KEY: Final = 0  # IPv4: address of the first segment's sender << 32 | the other's, as signed; IPv6: 0
FLOW_PORTS: Final = 1  # version << 32 | first sender's port << 16 | the other's
STREAM: Final = 2  # the stream's number (its row in `streams`)
FLOW_FLAGS: Final = 3  # FLOW_... bits | ENCAP_ bits seen << FLOW_ENCAP
LAST_TIME: Final = 4
LAST_FRAME: Final = 5
COMPLETENESS: Final = 6  # Wireshark's tcp.completeness bits
Z_FLOW: Final = 7  # Zeek's flow-level bits (see zeek.py)
PREVIOUS: Final = 8  # the incarnation before on the same 4-tuple: stream + 1; 0: none; FORGOTTEN
FIRST_RTT: Final = 9  # ns from SYN to the handshake's ACK (Wireshark's initial RTT); 0: not known
RTT_CLIENT: Final = 10  # ns, smallest round trip between tap and client; 0: not known
RTT_SERVER: Final = 11  # ns, smallest round trip between tap and server; 0: not known
Z_HISTORY: Final = 12  # 12..15: Zeek's history, packed (see zeek.py)
CLIENT: Final = 16  # first cell of the client's block
BLOCK: Final = 56  # cells per endpoint
SERVER: Final = CLIENT + BLOCK  # first cell of the server's block
FLOW_STRIDE: Final = SERVER + BLOCK
HANDSHAKE: Final = CLIENT + 32  # ns from the first SYN to the segment that first acknowledged the SYN-ACK; 0: not known
SYN_TIME: Final = SERVER + 32  # ns, latest SYN without ACK (Wireshark's ts_mru_syn); 0: none
LINE: Final = 8  # cells in a cache line: blocks begin on one, and what plain segments touch stands first

FLOW_ENCAP: Final = 16
FLOW_SWAPPED: Final = 1  # the first segment came from the server
FLOW_INFERRED: Final = 2  # roles are inferred, not seen
FLOW_FAST_OPEN: Final = 4  # the SYN's data was acknowledged by the SYN-ACK
FLOW_ORPHAN: Final = 8  # the stream began with a SYN on a 4-tuple whose last incarnation was still alive
FLOW_QUEUED: Final = 16  # it waits to be packed (see archive.py)
FLOW_KEPT: Final = 32  # it cannot be packed, or was once and came back: it stays a row
FLOW_TOUCHED: Final = 64  # changed without a segment of its own since one last looked (see summary.py)

# --- an endpoint: what plain segments touch: of the receiver one cache line, of the sender two --------------
E_FLAGS: Final = 0  # F_... bits and doubts D_...
# cells of analysis.py (Wireshark's sequence analysis)
A_FLAGS: Final = 1
A_NEXT: Final = 2  # next expected sequence number (Wireshark's nextseq)
A_ACK: Final = 3  # acknowledgment of its last segment (Wireshark's lastack)
A_WINDOW: Final = 4  # window field of its last segment, not scaled
A_SCALE: Final = 5  # window scale: see analysis.py for the coding of "unknown"
E_PACKETS: Final = 6
E_OCTETS: Final = 7  # payload as sent
A_ACK_TIME: Final = 8  # ns, time of its last segment (lastacktime)
A_NEXT_TIME: Final = 9  # ns, when A_NEXT last moved (nextseqtime)
A_STAMP: Final = 10  # what tells its last segment from a retransmission
A_SEEN: Final = 11  # IP identifications seen lately
E_STATE: Final = 12
Z_FLAGS: Final = 13  # 13..22: cells of zeek.py, named there

# --- an endpoint: everything else ------------------------------------------------------------------------
A_BASE: Final = 23  # base sequence number (ISN, or first seq - 1, or the peer's first ack - 1)
A_CONTIGUOUS: Final = 24  # end of what was seen without a gap (Wireshark's maxseqtobeacked)
E_SND_MAX: Final = 25  # highest sequence number it sent, + 1 (SND.NXT as far as the tap knows)
E_ACKED: Final = 26  # highest acknowledgment it sent
E_UNIQUE: Final = 27  # payload octets not seen before
E_LOG: Final = 28  # oldest live entry of its event log + 1; 0: none
E_TAIL: Final = 29  # newest live entry + 1
E_DEAD: Final = 30  # newest retracted entry + 1 | next free entry of its own << 32 (see evidence.new_entry)
E_FIRST: Final = 31  # oldest entry of all + 1 | E_LOG's forerunner + 1 << 32 (F_SEALED: it opened again in this stream)
E_SPARE: Final = 32  # a cell that belongs to the flow: HANDSHAKE in the client's block, SYN_TIME in the server's
E_ISS: Final = 33  # F_ISS
E_FIN: Final = 34  # sequence number of its FIN; F_FIN
E_DATA_TIME: Final = 35  # its last segment that took sequence space
E_DATA_FRAME: Final = 36
E_RETX_COUNT: Final = 37  # retransmissions of E_RETX_SEQ in a row without any answer
E_RETX_SEQ: Final = 38
E_RETX_TIME: Final = 39
E_RETX_GAP: Final = 40
E_OPEN_FIRST: Final = 41  # time of its first SYN or SYN-ACK
E_OPEN_LAST: Final = 42  # time of its latest SYN or SYN-ACK
E_OPEN_FRAME: Final = 43  # frame of its first SYN-ACK (of its first SYN, if it never sent a SYN-ACK)
E_OPENINGS: Final = 44  # SYNs sent | SYN-ACKs sent << 32
E_CANDIDATE_TIME: Final = 45  # where rcv_ack_of_syn (later: rcv_fin) belongs if it turns out to have happened
E_CANDIDATE_FRAME: Final = 46
E_CONTIGUOUS: Final = 47  # end of what the tap saw from it without a hole
E_ISLAND: Final = 48  # 48, 49: first run of octets beyond a hole, from and to (F_ISLAND)
E_END_TIME: Final = 50  # entered TIME-WAIT, or the RST towards it passed
E_ZERO_TIME: Final = 51  # when its window closed
E_TRAITS: Final = 52  # its SYN's options: see TRAIT_ below
E_COUNTS: Final = 53  # retransmitted | out of order << 32
E_COUNTS_2: Final = 54  # duplicate ACKs | zero windows << 32
E_COUNTS_3: Final = 55  # keepalives | number of segments in a row with the same TTL << 32 (255 at most) | TTL << 40

F_SND: Final = 1  # E_SND_MAX, E_CONTIGUOUS valid
F_ISS: Final = 2
F_ACKED: Final = 4
F_FIN: Final = 8
F_SYN: Final = 16  # sent a SYN without ACK
F_SYNACK: Final = 32
F_OTHER: Final = 64  # sent a segment that is neither SYN nor RST
F_RST: Final = 128
F_CONTRADICTED: Final = 256  # repeated its SYN-ACK though the ACK had passed: it is in SYN-RECEIVED until it speaks
F_DEFERRED: Final = 512  # its first repeated SYN-ACK came late: deferred accept
F_CANDIDATE: Final = 1024  # E_CANDIDATE_... valid
F_ISLAND: Final = 2048
F_UNKNOWN_START: Final = 4096  # its first state is UNKNOWN, not CLOSED
F_TTL_ODD: Final = 8192  # sent segments with different TTLs
F_FORGED: Final = 16384  # a RST in its name was not its own
F_ZERO_WINDOW: Final = 32768  # its window is closed now
F_CHALLENGED: Final = 1 << 17  # answered a new SYN with an old incarnation's numbers
F_HALF_TOLD: Final = 1 << 18  # sent octets after its peer's FIN: the half-close was told
F_AHEAD: Final = 1 << 19  # acknowledged its peer's FIN from one octet beyond what was seen of it: perhaps its own FIN
F_SEALED: Final = 65536  # E_LOG begins at an opening from CLOSED: what came before is never looked at again

D_SYNACK: Final = 1 << 20  # the log holds an assumed rcv_synack
D_ACK_OF_SYN: Final = 1 << 21  # ... rcv_ack_of_syn
D_FIN: Final = 1 << 22  # ... rcv_fin
D_ACK_OF_FIN: Final = 1 << 23  # ... rcv_ack_of_fin
D_RST: Final = 1 << 24  # ... rcv_rst
D_END: Final = 1 << 25  # ... an end by timer or ICMP
DOUBTS: Final = D_SYNACK | D_ACK_OF_SYN | D_FIN | D_ACK_OF_FIN | D_RST | D_END
F_CALM: Final = 1 << 28  # no doubt open, nothing pending: the plain segments that it sends need no inference
F_DATA_NOTED: Final = 1 << 29  # while calm: Zeek's letter for its payload is noted
F_ACK_NOTED: Final = 1 << 30  # while calm: Zeek's letter for its pure ACKs is noted
F_TTL: Final = 40  # bits 40..47, while calm: the TTL of all its latest segments

# --- inference rules that can be switched off, for ablation (Options.without_rules) ------------------------
RULE_RETRACT_SYNACK: Final = 1
RULE_STICKY: Final = 2
RULE_SYNACK_EXPIRY: Final = 4
RULE_STATELESS: Final = 8
RULE_GIVE_UP: Final = 16
RULE_TIME_WAIT: Final = 32
RULE_CLOSING: Final = 64
RULE_FIN_LOST: Final = 128
RULE_FIN_CONTIGUOUS: Final = 256
RULE_FIN_INSERT: Final = 512
RULE_LAST_ACK_LOST: Final = 1024
RULE_RST_WINDOW: Final = 2048
RULE_RST_RETRACT: Final = 4096
RULE_RST_FORGED: Final = 8192
RULE_NEVER_ESTABLISHED: Final = 16384
RULE_CHALLENGE: Final = 32768
RULE_ICMP: Final = 65536
RULE_ALIVE: Final = 131072
RULE_ECHO: Final = 262144

RULES: Final[dict[str, int]] = {
    "retract_synack": RULE_RETRACT_SYNACK,
    "sticky": RULE_STICKY,
    "synack_expiry": RULE_SYNACK_EXPIRY,
    "stateless": RULE_STATELESS,
    "give_up": RULE_GIVE_UP,
    "time_wait": RULE_TIME_WAIT,
    "closing": RULE_CLOSING,
    "fin_lost": RULE_FIN_LOST,
    "fin_contiguous": RULE_FIN_CONTIGUOUS,
    "fin_insert": RULE_FIN_INSERT,
    "last_ack_lost": RULE_LAST_ACK_LOST,
    "rst_window": RULE_RST_WINDOW,
    "rst_retract": RULE_RST_RETRACT,
    "rst_forged": RULE_RST_FORGED,
    "never_established": RULE_NEVER_ESTABLISHED,
    "challenge": RULE_CHALLENGE,
    "icmp": RULE_ICMP,
    "alive": RULE_ALIVE,
    "echo": RULE_ECHO,
}
"""Rules of the inference by name; what each gains is measured in tests/tcp/test_kernel_truth.py."""

TRAIT_SCALE: Final = 16  # bits 16..19: window scale; bits 0..15: MSS
TRAIT_HAS_MSS: Final = 1 << 20
TRAIT_HAS_SCALE: Final = 1 << 21
TRAIT_SACK: Final = 1 << 22
TRAIT_TIMESTAMPS: Final = 1 << 23
TRAIT_FAST_OPEN: Final = 1 << 24
TRAIT_ECN: Final = 1 << 25  # ECN-setup SYN or SYN-ACK (RFC 3168 6.1.1)
TRAIT_SYN: Final = 1 << 26  # its SYN or SYN-ACK was captured
TRAIT_STAMPED: Final = 1 << 27  # TRAIT_STAMP valid
TRAIT_STAMP: Final = 28  # bits 28..59: timestamp value of its first SYN; from its FIN on, of its first FIN

# --- a slot of the hash table: tag << 32 | SLOT_FLOW | number + 1; 0: free ----------------------------------
SLOT_FLOW: Final = 1 << 31  # the number is a flow's; else a stream's that has only its first segment
SLOT_NUMBER: Final = SLOT_FLOW - 1

# --- the table of streams: key and first segment --------------------------------------------------------
STREAM_STRIDE: Final = 16
S_SRC: Final = 0  # 0, 1: address of the first segment's sender, two cells of 64 bits (IPv4: the second)
S_DST: Final = 2  # 2, 3: receiver's
S_PORTS: Final = 4  # version << 32 | source port << 16 | destination port
S_TIME: Final = 5
S_FRAME: Final = 6
S_SEQ: Final = 7
S_ACK: Final = 8
S_FLAGS: Final = 9  # flags | window << 16 | TTL << 32 | IP identification << 40
S_LENGTH: Final = 10  # payload | frame's wire length << 32
S_OPTIONS: Final = 11  # HAS_ bits | ENCAP_ bits << 32
S_TS: Final = 12  # timestamp echo << 32 | value, as signed
S_MSS: Final = 13  # MSS | window scale << 16
S_FLOW: Final = 14  # row in `flows` + 1; 0: only this one segment so far; negative: -(place in `log` + 1), packed
S_PREVIOUS: Final = 15  # the incarnation before on the same 4-tuple: stream + 1; 0: none; FORGOTTEN
FORGOTTEN: Final = -1  # there was one, and the tracker has forgotten it (see forget.py)

# --- array g: counters, settings, the machine --------------------------------------------------------------
G_STREAMS: Final = 0
G_FLOWS: Final = 1  # rows of `flows` that were ever used
G_LOG: Final = 2
G_EVENTS: Final = 3
G_MASK: Final = 4  # slots - 1 of the hash table
G_TIME_WAIT: Final = 5  # ns
G_SYNACK_FIRST: Final = 6  # ns until the first repeat of a SYN-ACK
G_RULES_OFF: Final = 7  # RULE_ bits switched off
G_ZERO_WINDOW: Final = 8  # ns
G_FIN_TIMEOUT: Final = 9  # ns in FIN-WAIT-2 of a closed socket
G_SEGMENTS: Final = 10
G_QUOTED: Final = 11
G_QUOTED_LOST: Final = 12  # quotations of flows that were not captured
G_NOW: Final = 13  # latest time seen
G_DUPLICATES: Final = 14  # duplicate frames
G_DUPLICATE_NS: Final = 15  # a copy of a frame comes within this time
G_SECRET: Final = 16  # 16..26: random odd numbers of the keyed hash
G_FREE_ROW: Final = 28  # a free row of `flows` + 1; its first cell names the next one
G_FREE_BLOCK: Final = 29  # first entry + 1 of a free block of `log`; its link names the next one
G_LONG: Final = 30  # streams of more than one segment
G_PACKED_ENTRIES: Final = 31  # log entries of packed flows, at most
G_TABLE: Final = 32  # the state machine: states.transition_array()
G_RING_NEXT: Final = 224  # where in the ring the next finished flow goes
G_RING_SIZE: Final = 225
G_PACK: Final = 256  # archive.packing_rules()
G_RING: Final = 384  # finished flows that wait to be packed: first cell + 1, and the hash of the ends
RING_STRIDE: Final = 2
RING_MAX: Final = 1024
G_SIZE: Final = G_RING + RING_MAX * RING_STRIDE

# --- marks: what each segment of a batch was, written by `track` -----------------------------------------------
MARK_STRIDE: Final = 2
M_STREAM: Final = 0  # stream << 1 | 1 if sent by the server; -1: a quotation without flow
M_MARKS: Final = 1  # MARK_ bits

# --- marks of one segment (what analysis.py says about it, beside Wireshark's name) -----------------------
MARK_RETRANSMISSION: Final = 1
MARK_FAST_RETRANSMISSION: Final = 2  # set together with MARK_RETRANSMISSION
MARK_SPURIOUS_RETRANSMISSION: Final = 4  # set together with MARK_RETRANSMISSION
MARK_OUT_OF_ORDER: Final = 8
MARK_DUPLICATE_ACK: Final = 16
MARK_ZERO_WINDOW: Final = 32
MARK_ZERO_WINDOW_PROBE: Final = 64
MARK_ZERO_WINDOW_PROBE_ACK: Final = 128
MARK_WINDOW_FULL: Final = 256
MARK_WINDOW_UPDATE: Final = 512
MARK_KEEP_ALIVE: Final = 1024
MARK_KEEP_ALIVE_ACK: Final = 2048
MARK_LOST_SEGMENT: Final = 4096
MARK_ACK_LOST_SEGMENT: Final = 8192
MARK_REUSED_PORTS: Final = 16384
MARK_DUPLICATE_FRAME: Final = 32768  # the capture has the same frame twice: nothing else is said about it

MARKS: Final[dict[int, str]] = {
    MARK_RETRANSMISSION: "retransmission",
    MARK_FAST_RETRANSMISSION: "fast_retransmission",
    MARK_SPURIOUS_RETRANSMISSION: "spurious_retransmission",
    MARK_OUT_OF_ORDER: "out_of_order",
    MARK_DUPLICATE_ACK: "duplicate_ack",
    MARK_ZERO_WINDOW: "zero_window",
    MARK_ZERO_WINDOW_PROBE: "zero_window_probe",
    MARK_ZERO_WINDOW_PROBE_ACK: "zero_window_probe_ack",
    MARK_WINDOW_FULL: "window_full",
    MARK_WINDOW_UPDATE: "window_update",
    MARK_KEEP_ALIVE: "keep_alive",
    MARK_KEEP_ALIVE_ACK: "keep_alive_ack",
    MARK_LOST_SEGMENT: "lost_segment",
    MARK_ACK_LOST_SEGMENT: "ack_lost_segment",
    MARK_REUSED_PORTS: "reused_ports",
    MARK_DUPLICATE_FRAME: "duplicate_frame",
}
