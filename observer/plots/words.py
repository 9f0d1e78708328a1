"""Numbers and names as they stand in pictures.

Whatever a capture says passes through `safe`: matplotlib would read "$...$" as mathematics, and control or
bidirectional characters could hide what is there.

Never here: what is drawn.  Sources: RFC 9293 (spelling of states), RFC 5952 6 (ports of IPv6 addresses), ISO 8601.
"""

from __future__ import annotations

LONGEST = 300
"""Characters of one text from a capture that a picture shows."""


def safe(text: str) -> str:
    r"""Return a text that matplotlib draws as it stands: no mathematics, no characters that act or hide.

    Examples
    --------
    >>> safe("a$b$\x1b[31m")
    'a\\$b\\$\\x1b[31m'
    """
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return text.replace("$", r"\$")


def state_words(name: str) -> str:
    """Return a state as RFC 9293 spells it: TIME_WAIT is TIME-WAIT."""
    return name.replace("_", "-")


def endpoint(address: str, port: int) -> str:
    """Return address and port, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count(1, "segment"), count(12041, "segment")
    ('1 segment', '12,041 segments')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def octets(number: int) -> str:
    """Return a number of octets with a decimal prefix.

    Examples
    --------
    >>> octets(999), octets(1500), octets(4_300_000_000)
    ('999 B', '1.5 kB', '4.3 GB')
    """
    value, prefix = float(number), ""
    for larger in "kMGTP":
        if value < 999.5:
            break
        value, prefix = value / 1000, larger
    return f"{value:.3g} {prefix}B" if prefix else f"{number} B"


def duration(span_ns: int) -> str:
    """Return a span of time in the unit in which people say it.

    Examples
    --------
    >>> duration(21_600_000), duration(12_200_000_000), duration(7_500_000_000_000), duration(450)
    ('21.6 ms', '12.2 s', '2.08 h', '450 ns')
    """
    if span_ns < 0:
        return "-" + duration(-span_ns)
    steps = ((10**3, "ns", 1), (10**6, "us", 10**3), (10**9, "ms", 10**6), (120 * 10**9, "s", 10**9),
             (7200 * 10**9, "min", 60 * 10**9), (172_800 * 10**9, "h", 3600 * 10**9))  # fmt: skip
    for limit, unit, divisor in steps:
        if span_ns < limit:
            return f"{span_ns / divisor:.3g} {unit}"
    return f"{span_ns / 86_400e9:.3g} d"


def utc(time_ns: int, digits: int = 0) -> str:
    """Return an instant as date and time in UTC.

    Examples
    --------
    >>> utc(1_795_227_123_123_456_789, 6)
    '2026-11-21 02:12:03.123456 UTC'
    """
    from datetime import datetime, timedelta

    seconds, rest = divmod(time_ns, 10**9)
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    fraction = f".{rest:09d}"[: digits + 1] if digits else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} UTC"
