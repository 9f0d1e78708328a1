"""Where a flow's memory stands: one row of int64 cells for each flow, two endpoint blocks inside.

Cell names without prefix belong to the flow, `E_` to an endpoint (add the endpoint's block), `A_` are the
endpoint's cells of `analysis.py`, `Z_` those of `zeek.py`.  A row starts as zeros, so every cell means
"nothing yet" at 0; sequence numbers are only valid when their flag in E_FLAGS (or A_FLAGS) says so.

This module never computes: it only says where things stand.
"""

from __future__ import annotations

from typing import Final

# --- the flow ----------------------------------------------------------------------------------------
FLOW_STRIDE: Final = 112
STREAM: Final = 0  # the stream's number (row in the table of streams, where key and first segment stand)
FLOW_FLAGS: Final = 1
COMPLETENESS: Final = 2  # Wireshark's tcp.completeness bits
FIRST_RTT: Final = 3  # ns from SYN to the handshake's ACK (Wireshark's initial RTT); 0: not known
SYN_TIME: Final = 4  # ns, latest SYN without ACK (Wireshark's ts_mru_syn); 0: none
LAST_TIME: Final = 5
LAST_FRAME: Final = 6
ENCAPSULATIONS: Final = 7  # ENCAP_ bits seen
RTT_CLIENT: Final = 8  # ns, smallest round trip between tap and client; 0: not known
RTT_SERVER: Final = 9  # ns, smallest round trip between tap and server; 0: not known
Z_HISTORY: Final = 10  # 10..13: Zeek's history, packed (see zeek.py)
Z_FLOW: Final = 14  # Zeek's flow-level bits (see zeek.py)
PREVIOUS: Final = 15  # stream number + 1 of the incarnation before on the same 4-tuple; 0: none
CLOSED_FIRST: Final = 16
ENDED: Final = 17
CLIENT: Final = 20  # first cell of the client's block (the client is the sender of the first SYN; see ROLES)
SERVER: Final = 66  # first cell of the server's block
BLOCK: Final = 46  # cells per endpoint

# --- an endpoint: cells of the inference ---------------------------------------------------------------
E_STATE: Final = 0
E_FLAGS: Final = 1
E_LOG: Final = 2  # newest live entry of the event log + 1; 0: none
E_ISS: Final = 3
E_SND_MAX: Final = 4  # highest sequence number it sent, + 1 (SND.NXT as far as the tap knows)
E_ACKED: Final = 5  # highest acknowledgment it sent
E_FIN: Final = 6  # sequence number of its FIN
E_LAST_TIME: Final = 7
E_PROGRESS_TIME: Final = 8

# --- an endpoint: cells of the accounting --------------------------------------------------------------
E_PACKETS: Final = 12
E_OCTETS: Final = 13  # payload as sent
E_UNIQUE: Final = 14  # payload octets not seen before
E_RETRANSMITTED: Final = 15
E_OUT_OF_ORDER: Final = 16
E_DUPLICATE_ACKS: Final = 17
E_ZERO_WINDOWS: Final = 18
E_KEEPALIVES: Final = 19

# --- an endpoint: cells of analysis.py (Wireshark's sequence analysis), 12 cells ------------------------
A_FLAGS: Final = 24
A_NEXT: Final = 25  # next expected sequence number (Wireshark's nextseq)
A_CONTIGUOUS: Final = 26  # end of what was seen without a gap (Wireshark's maxseqtobeacked)
A_ACK: Final = 27  # acknowledgment of its last segment (Wireshark's lastack)
A_WINDOW: Final = 28  # window field of its last segment, not scaled
A_DUPLICATES: Final = 29  # duplicate ACKs in a row (dupacknum)
A_MARKS: Final = 30  # marks of its last segment (lastsegmentflags)
A_NEXT_TIME: Final = 31  # ns, when A_NEXT last moved (nextseqtime)
A_ACK_TIME: Final = 32  # ns, time of its last segment (lastacktime)
A_BASE: Final = 33  # base sequence number (ISN, or first seq - 1, or the peer's first ack - 1)
A_SCALE: Final = 34  # window scale: see analysis.py for the coding of "unknown"
A_SPARE: Final = 35

# --- an endpoint: cells of zeek.py, 10 cells -------------------------------------------------------------
Z_FLAGS: Final = 36  # .. 45, named in zeek.py

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
