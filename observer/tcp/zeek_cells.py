"""Cells, bits, letters and codes of Zeek's view of a flow (see zeek.py, which says what they mean).

Never computes anything.  Source: Zeek's TCP_Endpoint.h and base/protocols/conn.
"""

from __future__ import annotations

from typing import Final

from observer import segments as seg
from observer.tcp import layout

# --- cells of an endpoint (added to its block) ----------------------------------------------------------
Z_FLAGS: Final = layout.Z_FLAGS
Z_START: Final = Z_FLAGS + 1  # sequence number of its SYN; of a partial connection its first one - 1
Z_LAST: Final = Z_FLAGS + 2  # highest end of a segment seen
Z_ACKED: Final = Z_FLAGS + 3  # highest acknowledgment of its octets, kept only where it is beyond Z_LAST
Z_LAST_SYN: Final = Z_FLAGS + 4  # relative sequence number of its last SYN, FIN, RST
Z_LAST_FIN: Final = Z_FLAGS + 5
Z_LAST_RST: Final = Z_FLAGS + 6
Z_COUNTS: Final = Z_FLAGS + 7  # 20 bits each: wrong checksums, retransmissions, zero windows
Z_DELIVERED: Final = Z_FLAGS + 8  # end of what is there without a hole or was given up; stale where QUICK is set
Z_ABOVE: Final = Z_FLAGS + 9  # octets above the first hole: distance from Z_DELIVERED << 30 | length; 0: none

# --- Z_FLAGS --------------------------------------------------------------------------------------------
STATE_MASK: Final = 7
PREVIOUS_SHIFT: Final = 3  # the state before, 3 bits
SEEN_SYN: Final = 1 << 6
SEEN_FIN: Final = 1 << 7
SEEN_RST: Final = 1 << 8
SEEN_FIN_RST: Final = 1 << 9
SEEN_DATA: Final = 1 << 10
SEEN_ACK: Final = 1 << 11
SEEN_MULTI: Final = 1 << 12
DID_CLOSE: Final = 1 << 13
ORIGINATOR: Final = 1 << 14
SEEN: Final = 1 << 15  # it has sent a segment
QUICK: Final = 1 << 16  # see zeek_is_plain
HAS_FIN: Final = 1 << 17
GAPS_SHIFT: Final = 20  # 20 bits: content gaps

# states of an endpoint (Zeek's TCP_ENDPOINT_...)
INACTIVE: Final = 0
SYN_SENT: Final = 1
SYN_ACK_SENT: Final = 2
PARTIAL: Final = 3
ESTABLISHED: Final = 4
CLOSED: Final = 5
RESET: Final = 6
# sets of states, one bit for each
WAITING: Final = 1 << SYN_SENT | 1 << SYN_ACK_SENT
SILENT: Final = 1 << INACTIVE | 1 << PARTIAL
OPEN: Final = 1 << PARTIAL | 1 << ESTABLISHED

# --- Z_FLOW ---------------------------------------------------------------------------------------------
LETTERS_MASK: Final = 63  # letters noted
Z_STARTED: Final = 1 << 8
Z_PARTIAL: Final = 1 << 9
Z_OVER: Final = 1 << 10  # Zeek would have begun another record; this one is final
Z_FULL: Final = 1 << 11  # more letters than fit: the first MAX_LETTERS are kept
Z_IGNORE_CHECKSUMS: Final = 1 << 12
Z_CLOSED: Final = 1 << 13  # the close is complete
TIMER_SHIFT: Final = 16  # when a timer began, in units of 2**20 ns: complete close if Z_CLOSED, else first SYN; 0: none
TIMER_MASK: Final = (1 << TIMER_SHIFT) - 1

MAX_LETTERS: Final = 48  # 4 cells of 12 letters of 5 bits
LETTERS_PER_CELL: Final = 12
ALPHABET: Final = " shadfrcgtwiqSHADFRCGTWIQ^"  # code of a letter = its place; upper case is 12 further on
L_S: Final = 1
L_H: Final = 2
L_A: Final = 3
L_D: Final = 4
L_F: Final = 5
L_R: Final = 6
L_C: Final = 7
L_G: Final = 8
L_T: Final = 9
L_W: Final = 10
L_I: Final = 11
L_Q: Final = 12
UPPER: Final = 12
L_FLIP: Final = 25

COUNT_MASK: Final = 0xFFFFF  # 20 bits
CHECKSUM_SHIFT: Final = 0
RETRANSMISSION_SHIFT: Final = 20
ZERO_WINDOW_SHIFT: Final = 40

MASK: Final = 0xFFFFFFFF
ABOVE_SHIFT: Final = 30
ABOVE_MASK: Final = (1 << 30) - 1
TOO_LARGE_JUMP: Final = 1048576  # Zeek's TOO_LARGE_SEQ_DELTA: SYN and RST this far off are not believed
TIMER_UNITS: Final = 4768  # 5 s (Zeek's tcp_close_delay and tcp_attempt_delay) in units of 2**20 ns
CONTROL: Final = seg.SYN | seg.FIN | seg.RST

# upper-case letters after which a SYN followed by a RST is no RSTOS0: H A F G I Q, one bit each
BREAKS_SYN_RST: Final = 1 << L_H | 1 << L_A | 1 << L_F | 1 << L_G | 1 << L_I | 1 << L_Q

CONN_STATES: Final[dict[int, str]] = {
    1: "S0",
    2: "S1",
    3: "SF",
    4: "REJ",
    5: "S2",
    6: "S3",
    7: "RSTO",
    8: "RSTR",
    9: "RSTOS0",
    10: "RSTRH",
    11: "SH",
    12: "SHR",
    13: "OTH",
}
C_S0: Final = 1
C_S1: Final = 2
C_SF: Final = 3
C_REJ: Final = 4
C_S2: Final = 5
C_S3: Final = 6
C_RSTO: Final = 7
C_RSTR: Final = 8
C_RSTOS0: Final = 9
C_RSTRH: Final = 10
C_SH: Final = 11
C_SHR: Final = 12
C_OTH: Final = 13

# fmt: off
LIKELY_SERVERS: Final = frozenset({
    21, 2811,  # ftp, gridftp
    22, 25, 587, 43, 53, 79, 88,  # ssh, smtp, whois, dns, finger, kerberos
    80, 81, 631, 1080, 3128, 8000, 8080, 8888,  # http
    135, 139, 445,  # dce-rpc, smb
    143, 389, 3268, 502, 1883,  # imap, ldap, modbus, mqtt
    443, 563, 585, 614, 636, 989, 990, 992, 993, 995, 5223,  # tls
    1434, 3306, 3389, 5222, 5269, 5432, 6379,  # mysql, rdp, xmpp, postgresql, redis
    6666, 6667, 6668, 6669, 20000,  # irc, dnp3
})
# fmt: on
"""Zeek's likely_server_ports with its default scripts (base/protocols), TCP only."""
