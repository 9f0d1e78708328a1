"""Kernels that find the frames in the octets of a capture: one row of RECORD_ cells for each.

They stop where the octets end, the rows are used up, or something needs a decision (a new section, damage);
the reader in Python decides and calls again from the same place.  Never here: reading, names, options.

Sources: draft-ietf-opsawg-pcap-05, draft-ietf-opsawg-pcapng-02 sections 4.2 to 4.6 and 3.1; libpcap's sf-pcap.c
for lengths that old versions swapped, and for the limit on lengths.
"""

from __future__ import annotations

from typing import Final

from observer.kernels import Int64s, Octets, entry, kernel
from observer.segments import (
    RECORD_CAPTURED,
    RECORD_FRAME,
    RECORD_LINK,
    RECORD_OFFSET,
    RECORD_STRIDE,
    RECORD_TIME,
    RECORD_WIRE,
)

# --- cells of a reader's state -----------------------------------------------------------------------
POSITION: Final = 0  # out: where scanning stopped
STATUS: Final = 1  # out: why, one of the values below
NEED: Final = 2  # out, if HUNGRY: octets from POSITION on that make the next step possible
LITTLE: Final = 3  # 1: integers of the file are little-endian
LIMIT: Final = 4  # captured octets above this are damage
HEADER: Final = 5  # pcap: octets of a record header
FRACTION_NS: Final = 6  # pcap: ns in one unit of the second half of a time stamp
LINK: Final = 7  # pcap: link type of all frames
SWAPPED: Final = 8  # pcap: 1: lengths may stand in the other order
LAST_TIME: Final = 9  # pcapng: time of the frame before, for blocks without one
QUIET: Final = 10  # pcapng: 1: damaged blocks are passed over and only counted
PASSED: Final = 11  # pcapng: how many were passed over
STATE_CELLS: Final = 12

# --- why scanning stopped ----------------------------------------------------------------------------
HUNGRY: Final = 0  # NEED octets are needed
FULL: Final = 1  # no row is left
BAD_LENGTH: Final = 2  # a length that cannot be: reading cannot go on
ANOTHER_FILE: Final = 3  # pcap: the header of a further file stands where a record should
SECTION: Final = 4  # pcapng: a section header
INTERFACE: Final = 5  # pcapng: an interface description, complete
STATISTICS: Final = 6  # pcapng: interface statistics, complete
LARGE: Final = 7  # pcapng: a long block of no interest: to be passed over
BAD_TRAILER: Final = 8  # pcapng: the length at the end of a block is another than at its beginning
BAD_INTERFACE: Final = 9  # pcapng: a frame of an interface that the section does not describe; may be passed over
BAD_CAPTURED: Final = 10  # pcapng: a frame longer than its block; may be passed over

# --- rows of the table of interfaces -----------------------------------------------------------------
IF_STRIDE: Final = 6
IF_LINK: Final = 0
IF_SNAPLEN: Final = 1
IF_UNIT: Final = 2  # UNIT_...
IF_FACTOR: Final = 3  # UNIT_MULTIPLY, UNIT_DIVIDE: by what, below 2^31; UNIT_BINARY: the exponent
IF_FACTOR2: Final = 4  # UNIT_DIVIDE: a second divisor
IF_OFFSET: Final = 5  # ns to add, its size at most TIME_MAX
UNIT_MULTIPLY: Final = 0
UNIT_DIVIDE: Final = 1
UNIT_BINARY: Final = 2

TIME_MAX: Final = (1 << 62) - 1
"""Times are kept within 0 and this many ns (the year 2116), so that no difference of two leaves int64."""

BLOCK_SECTION: Final = 0x0A0D0D0A  # pcapng 4.1
BLOCK_INTERFACE: Final = 1  # pcapng 4.2
BLOCK_PACKET: Final = 2  # pcapng appendix A, obsolete
BLOCK_SIMPLE: Final = 3  # pcapng 4.4
BLOCK_STATISTICS: Final = 5  # pcapng 4.6
BLOCK_ENHANCED: Final = 6  # pcapng 4.3
SMALL_BLOCK: Final = 65536  # longer blocks of no interest are passed over without waiting for their end

MAGIC_MICRO: Final = 0xA1B2C3D4
MAGIC_NANO: Final = 0xA1B23C4D


@kernel
def load32(octets: Octets, at: int, little: int) -> int:
    """The unsigned 32-bit integer at an index; the caller knows that four octets are there."""
    if little:
        return octets[at] | octets[at + 1] << 8 | octets[at + 2] << 16 | octets[at + 3] << 24
    return octets[at] << 24 | octets[at + 1] << 16 | octets[at + 2] << 8 | octets[at + 3]


@kernel
def is_pcap_header(octets: Octets, at: int) -> int:
    """1 if 16 octets are the first of a pcap file (magic, version 2.4, no time zone), in either byte order."""
    for little in range(2):
        magic = load32(octets, at, little)
        if magic in (MAGIC_MICRO, MAGIC_NANO):
            version = load32(octets, at + 4, little)
            if version == (0x00040002 if little else 0x00020004):
                return 1
    return 0


@entry
def scan_pcap(octets: Octets, state: Int64s, records: Int64s, position: int, size: int, frame: int) -> int:
    """Rows for the records from position on; frame is the number of the first.  Returns how many."""
    little = state[LITTLE]
    limit = state[LIMIT]
    header = state[HEADER]
    fraction_ns = state[FRACTION_NS]
    link = state[LINK]
    swapped = state[SWAPPED]
    rows = len(records) // RECORD_STRIDE
    status = HUNGRY
    need = header
    count = 0
    row = 0
    while size - position >= header:
        if count == rows:
            status = FULL
            break
        captured = load32(octets, position + 8, little)
        wire = load32(octets, position + 12, little)
        if swapped and captured > wire:
            captured, wire = wire, captured
        if captured == 0 and wire == 0 and is_pcap_header(octets, position):
            status = ANOTHER_FILE
            break
        if captured > limit:
            status = BAD_LENGTH
            break
        following = position + header + captured
        if following > size:
            need = header + captured
            break
        records[row + RECORD_OFFSET] = position + header
        records[row + RECORD_CAPTURED] = captured
        records[row + RECORD_WIRE] = wire if wire > captured else captured
        # 2^32 s and 2^32 us or ns stay below TIME_MAX
        time_ns = load32(octets, position, little) * 1_000_000_000
        records[row + RECORD_TIME] = time_ns + load32(octets, position + 4, little) * fraction_ns
        records[row + RECORD_LINK] = link
        records[row + RECORD_FRAME] = frame + count
        row += RECORD_STRIDE
        count += 1
        position = following
    state[POSITION] = position
    state[STATUS] = status
    state[NEED] = need
    return count


@kernel
def binary_time(high: int, low: int, exponent: int) -> int:
    """Nanoseconds of a 64-bit time stamp that counts 2^-exponent seconds, rounded down; exponent 0 to 127."""
    if exponent < 32:
        if high >> (exponent + 1):
            return TIME_MAX  # 2^33 s or more
        seconds = high << (32 - exponent) | low >> exponent
        if seconds > TIME_MAX // 1_000_000_000:
            return TIME_MAX
        return seconds * 1_000_000_000 + ((low & ((1 << exponent) - 1)) * 1_000_000_000 >> exponent)
    shift = exponent - 32
    seconds = 0
    if shift < 32:
        seconds = high >> shift
        high &= (1 << shift) - 1
    elif shift > 62:
        return 0  # 2^64 of these units are less than 1 ns
    if seconds > TIME_MAX // 1_000_000_000:
        return TIME_MAX
    # the fraction is (high * 2^32 + low) / 2^exponent: multiplied in two halves, as 2^64 * 10^9 has no room
    return seconds * 1_000_000_000 + ((high * 1_000_000_000 + (low * 1_000_000_000 >> 32)) >> shift)


@kernel
def stamp_ns(interfaces: Int64s, row: int, high: int, low: int) -> int:
    """Nanoseconds since 1970 of a time stamp given as two 32-bit halves, kept within 0 and TIME_MAX."""
    unit = interfaces[row + IF_UNIT]
    factor = interfaces[row + IF_FACTOR]
    if unit == UNIT_MULTIPLY:
        value = high << 32 | low if high < 0x40000000 else TIME_MAX
        value = value * factor if value <= TIME_MAX // factor else TIME_MAX
    elif unit == UNIT_DIVIDE:
        value = (high // factor << 32) + (((high % factor) << 32) + low) // factor
        value = value // interfaces[row + IF_FACTOR2]
        value = min(value, TIME_MAX)
    else:
        value = binary_time(high, low, factor)
    value += interfaces[row + IF_OFFSET]
    if value < 0:
        return 0
    return value if value < TIME_MAX else TIME_MAX


@kernel
def frame_row(
    octets: Octets, state: Int64s, interfaces: Int64s, records: Int64s, position: int, total: int, row: int
) -> int:
    """Fill a row from a complete packet block of any of the three kinds.  Returns 0, or what is wrong with it."""
    little = state[LITTLE]
    kind = load32(octets, position, little)
    interface = 0
    if kind == BLOCK_SIMPLE:
        if total < 16:
            return BAD_CAPTURED
        if len(interfaces) < IF_STRIDE:
            return BAD_INTERFACE
        offset = position + 12
        wire = load32(octets, position + 8, little)
        captured = wire if wire < total - 16 else total - 16
        snaplen = interfaces[IF_SNAPLEN]
        if 0 < snaplen < captured:
            captured = snaplen
        time_ns = state[LAST_TIME]
    else:
        if total < 32:
            return BAD_CAPTURED
        interface = load32(octets, position + 8, little)
        if kind == BLOCK_PACKET:
            interface = interface & 0xFFFF if little else interface >> 16
        if interface >= len(interfaces) // IF_STRIDE:
            return BAD_INTERFACE
        offset = position + 28
        captured = load32(octets, position + 20, little)
        if captured > total - 32:
            return BAD_CAPTURED
        wire = load32(octets, position + 24, little)
        high = load32(octets, position + 12, little)
        time_ns = stamp_ns(interfaces, interface * IF_STRIDE, high, load32(octets, position + 16, little))
        state[LAST_TIME] = time_ns
    records[row + RECORD_OFFSET] = offset
    records[row + RECORD_CAPTURED] = captured
    records[row + RECORD_WIRE] = wire if wire > captured else captured
    records[row + RECORD_TIME] = time_ns
    records[row + RECORD_LINK] = interfaces[interface * IF_STRIDE + IF_LINK]
    return 0


@kernel
def block_status(octets: Octets, state: Int64s, position: int, size: int, kind: int, total: int) -> int:
    """FULL if the block may be used (then it is complete), otherwise why not."""
    if total < 12 or total & 3:
        return BAD_LENGTH
    if BLOCK_INTERFACE <= kind <= BLOCK_SIMPLE or BLOCK_STATISTICS <= kind <= BLOCK_ENHANCED:
        if total > state[LIMIT]:
            return BAD_LENGTH
    elif total > SMALL_BLOCK:
        return LARGE
    if size - position < total:
        return HUNGRY
    if load32(octets, position + total - 4, state[LITTLE]) != total:
        return BAD_TRAILER
    if kind == BLOCK_INTERFACE:
        return INTERFACE
    return STATISTICS if kind == BLOCK_STATISTICS else FULL


@entry
def scan_pcapng(
    octets: Octets, state: Int64s, interfaces: Int64s, records: Int64s, position: int, size: int, frame: int
) -> int:
    """Rows for the packet blocks from position on; frame is the number of the first.  Returns how many.

    interfaces: the section's table, IF_STRIDE cells each.
    """
    little = state[LITTLE]
    rows = len(records) // RECORD_STRIDE
    status = HUNGRY
    need = 12
    count = 0
    while size - position >= 12:
        # step 1: blocks that Python decides about, and lengths that cannot be
        kind = load32(octets, position, little)
        total = load32(octets, position + 4, little)
        status = SECTION if kind == BLOCK_SECTION else block_status(octets, state, position, size, kind, total)
        if status != FULL:
            need = total if status == HUNGRY else 12
            break
        # step 2: frames
        if kind in (BLOCK_ENHANCED, BLOCK_SIMPLE, BLOCK_PACKET):
            if count == rows:
                break
            row = count * RECORD_STRIDE
            wrong = frame_row(octets, state, interfaces, records, position, total, row)
            if wrong and not state[QUIET]:
                status = wrong
                break
            if wrong:
                state[PASSED] += 1
            else:
                records[row + RECORD_FRAME] = frame + count
                count += 1
        # step 3: everything else is passed over
        position += total
        status = HUNGRY
    state[POSITION] = position
    state[STATUS] = status
    state[NEED] = need
    return count
