"""Measures the observer against the peers that are installed, on captures that it makes itself.

    python tests/benchmarks/run.py                                  # everything at full size
    python tests/benchmarks/run.py --size small                     # a smoke run of some seconds
    python tests/benchmarks/run.py --size full --peers tcpdump,argus --rounds 7

Files are in the page cache, every process runs alone on processor 0, the observer and the peer take turns
(A B A B ...), and each ratio is the median of the pairs' ratios, with the smallest and largest.  The command measured
is `python -m observer read FILE`: the whole of it, from the start of the interpreter to the printed summary.  The
promised bounds stand beside the ratios with ok or MISSED; nothing is asserted here, since a shared machine's
figures are no test.

Never here: a figure that was not measured in this very run.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import CommandFailedError, Cost, cost, median, spread, warm
from peers import PEAK_MIB, PEERS, TCPDUMP_BOUNDS, Peer

HERE = Path(__file__).parent
SIZES = ("full", "headers", "flood", "scale", "cold", "small")


def observer(path: Path) -> list[str]:
    return [sys.executable, "-m", "observer", "read", str(path)]


def verdict(value: float, bound: float) -> str:
    return "ok" if value <= bound else "MISSED"


def capture(folder: Path, kind: str, packets: int) -> Path:
    """The capture of this kind and size, made if it is not there yet; then warm."""
    path = folder / f"{kind}-{packets}.pcap"
    if not path.is_file():
        command = [sys.executable, str(HERE / "generate.py"), "--kind", kind, "--packets", str(packets)]
        subprocess.run([*command, "--output", str(path)], check=True)
    warm(path)
    return path


def prefix(path: Path, packets: int) -> Path:
    """The first packets of a classic pcap file as a file of its own."""
    part = path.with_name(f"{path.stem}-first-{packets}.pcap")
    if not part.is_file():
        with path.open("rb") as source, part.open("wb") as target:
            target.write(source.read(24))
            for _ in range(packets):
                head = source.read(16)
                if len(head) < 16:
                    break
                target.write(head + source.read(int.from_bytes(head[8:12], "little")))
    warm(part)
    return part


def show(name: str, costs: list[Cost], packets: int) -> None:
    wall = [one.wall_s for one in costs]
    busy = f"user {median([one.user_s for one in costs]):.2f} s  sys {median([one.sys_s for one in costs]):.2f} s"
    peak = max(one.peak_kib for one in costs) / 1024
    rate = packets / median(wall)
    print(f"  {name:<10} {spread(wall, ' s'):<24} {busy}  peak {peak:,.0f} MiB  {rate:,.0f} packets/s", flush=True)


def pairs(path: Path, packets: int, peer: Peer, rounds: int, bound: float) -> list[Cost]:
    """Observer and peer in turns; prints the peer's cost and the ratio, returns the observer's costs."""
    own, theirs = [], []
    short = peer.first is not None and peer.first < packets
    peer_packets = peer.first if short and peer.first else packets
    peer_path = prefix(path, peer_packets) if short else path
    for _ in range(rounds):
        own.append(cost(observer(path)))
        theirs.append(cost(peer.command(peer_path)))
    show(peer.name, theirs, peer_packets)
    scale = packets / peer_packets
    ratios = [mine.wall_s / (other.wall_s * scale) for mine, other in zip(own, theirs, strict=True)]
    note = f"  (its time for {peer_packets:,} packets, times {scale:.3g})" if short else ""
    times = f"{1 / median(ratios):.3g} times faster" if median(ratios) < 1 else f"{median(ratios):.3g} times slower"
    print(f"    observer / {peer.name}: {spread(ratios)}, {times}; bound {bound:.3g}: "
          f"{verdict(median(ratios), bound)}{note}", flush=True)  # fmt: skip
    return own


def compare(folder: Path, kind: str, packets: int, names: list[str], rounds: int) -> None:
    path = capture(folder, kind, packets)
    print(f"\n{kind}: {packets:,} packets, {path.stat().st_size:,} octets")
    cost(observer(path))  # the kernels are compiled, the interpreter is warm
    own: list[Cost] = []
    for name in names:
        peer = PEERS[name]
        if not peer.there():
            print(f"  {name:<10} not installed")
            continue
        bound = TCPDUMP_BOUNDS.get(kind, 0.6) if name == "tcpdump" else peer.bound
        try:
            own += pairs(path, packets, peer, rounds if peer.first is None else min(rounds, 3), bound)
        except CommandFailedError as error:
            print(f"  {name:<10} {error}")
    own = own or [cost(observer(path)) for _ in range(rounds)]
    show("observer", own, packets)
    peak = max(one.peak_kib for one in own) / 1024
    bound = PEAK_MIB.get(kind, 350)
    print(f"    peak memory {peak:.0f} MiB; bound {bound} MiB: {verdict(peak, bound)}")


def busy_s(costs: list[Cost]) -> float:
    return median([one.user_s + one.sys_s for one in costs])


def scale(folder: Path, sizes: list[int], rounds: int) -> None:
    """Cost per packet from small to large (headers only, so that the largest stays in the page cache)."""
    few = 2000  # enough for the kernels to be loaded as machine code: that cost is the same for every size
    print(f"\nscale: headers only; processor time (user and system) beyond that of {few:,} packets")
    path = capture(folder, "headers", few)
    cost(observer(path))
    base_s = busy_s([cost(observer(path)) for _ in range(rounds)])
    each = []
    for packets in sizes:
        path = capture(folder, "headers", packets)
        cost(observer(path))
        costs = [cost(observer(path)) for _ in range(rounds)]
        show(f"{packets:,}", costs, packets)
        each.append((busy_s(costs) - base_s) / (packets - few) * 1e9)
        print(f"    {each[-1]:.0f} ns a packet", flush=True)
    ratio = max(each) / min(each)
    print(f"    largest / smallest: {ratio:.2f}; bound 1.5: {verdict(ratio, 1.5)}")


def cold(folder: Path, rounds: int) -> None:
    """What a small capture costs, and what the first run on a machine costs."""
    print("\ncold process")
    path = capture(folder, "full", 1000)
    own = [cost(observer(path)) for _ in range(rounds)]
    show("observer", own, 1000)
    tshark = PEERS["tshark"]
    if tshark.there():
        theirs = [cost(tshark.command(path)) for _ in range(rounds)]
        show("tshark", theirs, 1000)
        ratio = median([one.wall_s for one in own]) / median([one.wall_s for one in theirs])
        print(f"    observer / tshark on 1,000 packets: {ratio:.2f}; bound 1: {verdict(ratio, 1)}")
    bare = median([cost([sys.executable, "-c", "pass"]).wall_s for _ in range(rounds)])
    imported = [cost([sys.executable, "-c", "import observer"]).wall_s - bare for _ in range(rounds)]
    print(f"  import observer: {spread(imported, ' s')}; bound 0.1 s: {verdict(median(imported), 0.1)}")
    large = capture(folder, "headers", 200_000)
    ready = cost(observer(large)).wall_s
    with tempfile.TemporaryDirectory() as empty:
        first = cost(observer(large), environment={"OBSERVER_CACHE": empty}).wall_s
    # pinned to one processor; on two the compilation takes less
    print(
        f"  first compiled run: {first - ready:.1f} s more on one processor; bound 10 s: {verdict(first - ready, 10)}"
    )


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} processors, {system}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=int, default=6_000_000, help="packets of the full and headers captures")
    parser.add_argument("--size", default="full,headers,flood,scale,cold", help=f"some of {','.join(SIZES)}")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "observer-bench")
    arguments = parser.parse_args()
    sizes = arguments.size.split(",")
    names = [name for name in arguments.peers.split(",") if name]
    unknown = [name for name in names if name not in PEERS] + [size for size in sizes if size not in SIZES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    arguments.dir.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = str(HERE.parents[1])  # this checkout, whatever is installed,
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with its bytecode kept, as pip leaves it
    os.environ["PYTHONPYCACHEPREFIX"] = str(arguments.dir / "bytecode")
    print(machine())
    if "small" in sizes:
        print("small: shows that everything runs; the bounds are promised for the full size")
        for kind in ("full", "headers", "flood"):
            compare(arguments.dir, kind, 30_000, ["tcpdump"] if "tcpdump" in names else [], 2)
    for kind, packets in (("full", arguments.packets), ("headers", arguments.packets), ("flood", 2_000_000)):
        if kind in sizes:
            compare(arguments.dir, kind, packets, names if kind == "full" else ["tcpdump"], arguments.rounds)
    if "scale" in sizes:
        scale(arguments.dir, [100_000, 1_000_000, 5_000_000, 20_000_000], min(arguments.rounds, 3))
    if "cold" in sizes:
        cold(arguments.dir, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
