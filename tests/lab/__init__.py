"""A laboratory of real kernel endpoints: client, router and server in network namespaces of one Linux machine.

Purpose: make captures of genuine TCP behaviour together with the truth about it. A scenario drives real sockets, breaks
the path with nft rules or link state, and ends with three captures (at the client, in the middle, at the server), the
kernel's own state of every endpoint over time on the captures' clock, and the result of every socket call.

    net.py        namespaces, links, addresses, sysctls, nft rules; one laboratory at a time, cleaned up after a crash
    delay.py      a delay line between TAP devices (a process of its own), because tc netem is often missing
    taps.py       tcpdump at the three places
    sockets.py    sockets that live in a namespace and record every call
    trace.py      the tracepoint sock:inet_sock_set_state, read from the kernel's ring buffer
    diag.py       polls inet_diag (a process of its own) for the states that have no tracepoint
    frames.py     just enough parsing to tell when which flow was on the wire
    truth.py      tracepoint, polls and frames -> one time line per endpoint, and the truth file
    lab.py        Lab: all of the above for one scenario
    scenarios.py  how scenarios are registered; ordinary life, and how opening fails
    faults.py     how a connection ends badly, how one side dies or does not do its part
    soak.py       hundreds of connections by chance, under loss
    crowds.py     the scenarios that need many connections or several endpoints at once
    queues.py     listeners that do not keep up, lost answers to openings
    silence.py    hosts and paths that fall silent, timers that run out, resets that prove nothing
    paths.py      paths that treat directions or sizes differently, or take long
    pileups.py    connections of one service that pile up in a state, or are reset by the dozen
    programs.py   the servers and clients of healthy.py (pool.py is one of them)
    healthy.py    healthy traffic of real programs: nginx, redis, PostgreSQL, ab, wrk, curl, wget, iperf3
    __main__.py   plays scenarios from the command line

It never touches the machine's own network: every address lives in a namespace of its own, and nothing has a route out.
Needs root, Linux with network namespaces, tcpdump, nft and ip; ``missing()`` says what is not there.
"""

from . import crowds, faults, paths, pileups, queues, silence
from .lab import Lab, missing
from .scenarios import SCENARIOS, run
from .soak import soak

# Importing them registers their scenarios.
FAMILIES = (crowds, faults, paths, pileups, queues, silence)

__all__ = ["FAMILIES", "SCENARIOS", "Lab", "missing", "run", "soak"]
