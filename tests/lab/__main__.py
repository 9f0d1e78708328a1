"""Play scenarios and keep what they made: ``cd tests && python -m lab [-o FOLDER] [NAME ...] [--soak SEED ...]``.

Each goes into FOLDER/NAME (FOLDER/NAME.v6 with --ipv6): client.pcap, middle.pcap, server.pcap and truth.json. A
scenario that fails is reported and does not stop the others; the exit status says how many failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import SCENARIOS, Lab, missing, net, run, soak


def keep(folder: Path, play: Callable[[Path], Lab]) -> bool:
    """Play one and write its truth; whether it worked."""
    begin = time.monotonic()
    try:
        lab = play(folder)
    except Exception:
        traceback.print_exc()
        print(f"FAILED {folder.name}", flush=True)
        return False
    lab.write_truth(folder / "truth.json")
    (folder / "diag.jsonl").unlink()
    print(f"{folder.name}: {time.monotonic() - begin:.1f} s", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Play scenarios of the kernel laboratory.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; none: all, unless --soak is given")
    parser.add_argument("-o", "--output", type=Path, default=Path("/tmp/lab"))
    parser.add_argument("--slow", action="store_true", help="the slow scenarios too")
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--soak", type=int, nargs="*", default=[], metavar="SEED")
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--loss", type=int, default=2, metavar="PERCENT", help="of soaks, each way")
    options = parser.parse_args()
    if lacks := missing():
        sys.exit(lacks)
    net.clean()
    suffix = ".v6" if options.ipv6 else ""
    worked = []
    all_of_them = [] if options.soak else [name for name, one in SCENARIOS.items() if options.slow or not one.slow]
    for name in options.names or all_of_them:
        folder = options.output / f"{name}{suffix}"
        if options.ipv6 and SCENARIOS[name].only_ipv4:
            print(f"{name}: IPv4 only", flush=True)
            continue
        worked.append(keep(folder, lambda folder, name=name: run(name, folder, ipv6=options.ipv6)))  # type: ignore[misc]
    for seed in options.soak:
        folder = options.output / f"soak_{seed}{suffix}"
        worked.append(
            keep(
                folder,
                lambda folder, seed=seed: soak(  # type: ignore[misc]
                    folder,
                    seed=seed,
                    connections=options.connections,
                    loss_percent=options.loss,
                    ipv6=options.ipv6,
                ),
            )
        )
    return worked.count(False)


if __name__ == "__main__":
    sys.exit(main())
