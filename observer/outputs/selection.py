"""Which connections are told about: by address, port, final state and time.

Several values of one kind mean any of them, several kinds mean all of them.

Never here: what a state means.  Sources: RFC 4291 and 4632 (prefixes), ISO 8601.
"""

from __future__ import annotations

import ipaddress
import typing
from dataclasses import dataclass
from typing import Any

from observer.errors import OptionError
from observer.outputs.text import utc
from observer.schema import ENDPOINTS, STATES, Columns

if typing.TYPE_CHECKING:
    import numpy

    Mask = numpy.ndarray[Any, numpy.dtype[numpy.bool]]

PART_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was asked for, as text from the command line.

    Attributes
    ----------
    hosts
        Addresses or prefixes (10.0.0.0/8) of either side.
    ports
        Ports of either side.
    states
        Final states of either side, or client:STATE, server:STATE.
    since, until
        ISO 8601 (UTC unless it says otherwise), seconds since 1970, or +seconds after the capture's begin.  A
        connection is chosen if any of it lies between.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    states: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None

    def __bool__(self) -> bool:
        return bool(self.hosts or self.ports or self.states or self.since or self.until)

    def check(self) -> None:
        """Raise OptionError for what can be seen to be impossible before anything is read."""
        for host in self.hosts:
            network(host)
        for port in self.ports:
            if not 0 <= port < 65536:
                raise OptionError(f"port {port} does not exist; ports are 0 to 65535")
        for text in self.states:
            state(text)
        for moment in (self.since, self.until):
            if moment:
                instant(moment, 0)

    def words(self, begin_ns: int | None) -> str:
        """Say it in words."""
        said = []
        if self.hosts:
            said.append("host " + " or ".join(self.hosts))
        if self.ports:
            said.append("port " + " or ".join(map(str, self.ports)))
        if self.states:
            said.append("state " + " or ".join(self.states))
        for word, moment in (("since", self.since), ("until", self.until)):
            if moment:
                said.append(f"{word} {utc(instant(moment, begin_ns or 0), 3)}")
        return ", ".join(said)

    def mask(self, flows: Columns, begin_ns: int | None) -> Mask:
        """Return for each flow whether it is chosen.

        Parameters
        ----------
        flows
            Raw columns.
        begin_ns
            Time of the capture's first frame, for relative times.
        """
        import numpy

        chosen = numpy.ones(flows.rows, bool)
        at = 0
        hosts = self._known_hosts(flows)
        for part in flows.parts(PART_ROWS):
            chosen[at : at + part.rows] = self._mask(part, hosts, begin_ns or 0)
            at += part.rows
        return chosen

    def _known_hosts(self, flows: Columns) -> Mask | None:
        """Return for each address of the capture whether it was asked for; None: all were."""
        import numpy

        if not self.hosts:
            return None
        addresses = flows.addresses
        if addresses is None or not len(addresses):
            return numpy.zeros(0, bool)
        words, versions = numpy.asarray(addresses.words, numpy.int64), numpy.asarray(addresses.versions)
        known = numpy.zeros(len(versions), bool)
        for text in self.hosts:
            wanted = network(text)
            same = versions == wanted.version
            for i, shift in enumerate((96, 64, 32, 0)):
                mask = int(wanted.netmask) >> shift & 0xFFFFFFFF
                same &= (words[:, i] & mask) == (int(wanted.network_address) >> shift & 0xFFFFFFFF)
            known |= same
        return known

    def _mask(self, flows: Columns, hosts: Mask | None, begin_ns: int) -> Mask:
        import numpy

        chosen = numpy.ones(flows.rows, bool)
        if hosts is not None and flows.rows:
            chosen &= hosts[flows["client_addr"]] | hosts[flows["server_addr"]]
        if self.ports:
            ports = numpy.array(self.ports)
            chosen &= numpy.isin(flows["client_port"], ports) | numpy.isin(flows["server_port"], ports)
        if self.states:
            any_state = numpy.zeros(flows.rows, bool)
            for sides, code in map(state, self.states):
                for side in sides:
                    any_state |= numpy.asarray(flows[f"{side}_state"]) == code
            chosen &= any_state
        if self.since:
            chosen &= numpy.asarray(flows["last_time"]) >= instant(self.since, begin_ns)
        if self.until:
            chosen &= numpy.asarray(flows["first_time"]) <= instant(self.until, begin_ns)
        return chosen


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read an address or a prefix.

    Examples
    --------
    >>> str(network("10.1.2.3")), str(network("10.1.2.3/8"))
    ('10.1.2.3/32', '10.0.0.0/8')
    """
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        raise OptionError(
            f"{text!r} is no address and no prefix; examples: 10.1.2.3, 10.0.0.0/8, 2001:db8::/32"
        ) from None


def state(text: str) -> tuple[tuple[str, ...], int]:
    """Read a state, perhaps of one side: which sides, and the state's code.

    Examples
    --------
    >>> state("server:close-wait")
    (('server',), 7)
    """
    side, colon, name = text.rpartition(":")
    code = name.strip().upper().replace("-", "_")
    if (colon and side not in ENDPOINTS) or code not in STATES:
        raise OptionError(
            f"{text!r} is no state; there are {', '.join(STATES)}, each also as client:STATE or server:STATE"
        )
    return ((side,) if colon else ENDPOINTS), STATES.index(code)


def instant(text: str, begin_ns: int) -> int:
    """Read an instant: ns since 1970 UTC.

    Examples
    --------
    >>> instant("+1.5", 10), instant("1.000000001", 0), instant("1970-01-01T00:01:00", 0)
    (1500000010, 1000000001, 60000000000)
    """
    from datetime import UTC, datetime
    from decimal import Decimal, InvalidOperation

    try:
        seconds = Decimal(text)
        if abs(seconds) < 2**33:  # NaN and infinity compare false or raise
            return int(seconds * 10**9) + (begin_ns if text.startswith("+") else 0)
    except InvalidOperation:
        try:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
            return (since_1970.days * 86400 + since_1970.seconds) * 10**9 + since_1970.microseconds * 1000
        except ValueError:
            pass
    raise OptionError(
        f"{text!r} is no time; examples: 2026-11-21T02:12:03Z, 1795227123.5 (seconds since 1970), +5 (seconds after "
        "the capture's begin)"
    )


def as_moment(moment: Any) -> str | None:
    """Write an instant as `Selection` takes it: text, seconds, or what `datetime` and pandas have for times.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> as_moment(datetime(2026, 11, 21, tzinfo=UTC)), as_moment(timedelta(seconds=1.5)), as_moment(1.25)
    ('1795219200.000000000', '+1.500000000', '1.25')
    """
    from datetime import UTC, datetime, timedelta

    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, timedelta):
        return f"+{_seconds(moment)}"
    if isinstance(moment, datetime):
        known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _seconds(known - datetime(1970, 1, 1, tzinfo=UTC), getattr(moment, "nanosecond", 0))
    return str(moment)


def _seconds(span: Any, nanoseconds: int = 0) -> str:
    """Write a timedelta as seconds with nine digits; what pandas has below a microsecond is added."""
    whole = (span.days * 86400 + span.seconds) * 10**9 + span.microseconds * 1000
    whole += nanoseconds or getattr(span, "nanoseconds", 0)
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    return f"{sign}{whole // 10**9}.{whole % 10**9:09d}"
