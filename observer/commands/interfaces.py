"""`observer interfaces`: what can be captured here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from observer.commands.shared import DONE, notice, show

if TYPE_CHECKING:
    from observer.capture.live_interfaces import InterfaceEntry
    from observer.outputs.text import Line


@click.command("interfaces")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per interface.")
def command(as_json: bool) -> int:
    """List the interfaces that `observer live -i NAME` can observe, with link type and addresses.

    "ready" is one that this process can capture now.  Capturing needs root, or the capability CAP_NET_RAW.
    """
    import json
    from dataclasses import asdict

    from observer import privileges
    from observer.capture.live_interfaces import list_interfaces
    from observer.capture.live_pcap import library
    from observer.outputs.text import plain, terminal_width

    entries = list_interfaces()
    if as_json:
        show(plain(json.dumps(asdict(entry))) for entry in entries)
        return DONE
    show(_lines(entries, terminal_width(sys.stdout)))
    if any(privileges.CAPABILITY in entry.obstacle for entry in entries):
        notice(f"live capture needs {privileges.CAPABILITY}, which this process lacks: sudo observer live -i NAME")
    if library() is None:
        notice("libpcap is not installed: live capture goes through scapy's socket, some 200 times slower")
    return DONE


def _lines(entries: list[InterfaceEntry], width: int) -> Iterator[Line]:
    """One interface each: its name, then what is known of it, wrapped below."""
    from observer.outputs.summary import LINK_TYPES
    from observer.outputs.text import clean, plain, wrapped

    if not entries:
        yield plain("there is no network interface here")
    column = max((len(clean(entry.name)) for entry in entries), default=0) + 2
    for entry in entries:
        words = ["ready" if entry.capture else "not now", "up" if entry.up else "down"]
        words += ["loopback"] if entry.loopback else []
        if entry.link_type is not None:
            words.append(LINK_TYPES.get(entry.link_type, f"link type {entry.link_type}"))
        words += [word for word in (*entry.addresses, clean(entry.description)) if word]
        lines = wrapped([word + "," for word in words[:-1]] + words[-1:], width - column, indent="")
        if entry.obstacle:
            lines += wrapped(f"cannot be captured: {clean(entry.obstacle)}".split(), width - column, indent="")
        yield ((clean(entry.name).ljust(column), "name"), (lines[0], ""))
        for line in lines[1:]:
            yield plain(" " * column + line)
