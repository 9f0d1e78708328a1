"""The real programs of healthy.py: which servers run, and what the clients do, step by step.

Each step has a server port of its own, whose first two digits say what serves it (``SERVED_BY``). Never leaves a server
running; a server that is missing is named, and its steps are left out.

Sources: nginx.org/en/docs, redis.io/docs, postgresql.org/docs, the manual pages of the client programs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .net import Network

SERVED_BY = {80: "nginx", 81: "nginx", 82: "nginx", 63: "redis-server", 54: "postgres", 52: "iperf3"}
_KEPT, _CLOSED, _IDLE = 80, 81, 82  # nginx: keep-alive; closes after each answer; closes after two idle seconds
_NGINX = """daemon off; worker_processes 1; user root; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
 uwsgi_temp_path {work}/u; scgi_temp_path {work}/s; default_type text/plain; keepalive_requests 1000;
 server {{ {kept} keepalive_timeout 60; location / {{ return 200 "{text}"; }} location /large {{ root {work}; }} }}
 server {{ {closed} keepalive_timeout 0; location / {{ return 200 "{text}"; }} }}
 server {{ {idle} keepalive_timeout 2; location / {{ return 200 "{text}"; }} }} }}
"""
_LARGE_OCTETS = 300_000
_USER = "lab"


@dataclass(slots=True, frozen=True)
class Step:
    """One use of a client program, on a server port of its own; the command is run ``times`` times."""

    name: str
    port: int
    command: tuple[str, ...]
    times: int = 1


def steps(connections: int, host: str, work: Path) -> list[Step]:
    """The steps, with counts in proportion to ``connections``, which they reach or pass in all."""

    def share(percent: float) -> str:
        return str(max(8, round(connections * percent / 100)))

    def url(port: int, path: str = "/") -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"

    def pool(port: int, *args: str) -> tuple[str, ...]:
        return (sys.executable, str(Path(__file__).with_name("pool.py")), host, str(port), *args)

    def redis(port: int, *args: str) -> tuple[str, ...]:
        return ("redis-benchmark", "-h", host, "-p", str(port), "-q", "-t", "get", *args)

    (work / "select.sql").write_text("select 1;\n")
    pgbench = ("pgbench", "-n", "-C", "-c", "4", "-t", share(2), "-f", str(work / "select.sql"), "-h", host)
    iperf = ("iperf3", "-c", host, "-t", "2", "-b", "20M")
    quiet = ("-o", "/dev/null")
    curl = ("curl", "-sSf", *quiet)
    cli = ("redis-cli", "-h", host, "-p", "6303", "set", "key", "value")
    return [
        Step("ab, server closes first", 8101, ("ab", "-q", "-n", share(40), "-c", "10", url(8101))),
        Step("ab, keep-alive", 8001, ("ab", "-q", "-k", "-n", share(40), "-c", "20", url(8001))),
        Step("wrk, keep-alive", 8002, ("wrk", "-t1", "-c20", "-d1s", url(8002))),
        Step("curl, two requests", 8003, (*curl, url(8003), *quiet, url(8003, "/large")), int(share(4))),
        Step("curl, server closes", 8102, (*curl, url(8102), *[*quiet, url(8102)] * 19), int(share(0.4))),
        Step("wget", 8004, ("wget", "-q", "-O", "/dev/null", url(8004, "/large")), int(share(3))),
        Step("pool, client closes first", 8005, pool(8005, share(3), "5", "0", "close")),
        Step("pool, idle time-out", 8201, pool(8201, share(1), "3", "3", "check")),
        Step("pool, race with the time-out", 8202, pool(8202, "20", "4", "2.0", "hope")),
        Step("redis-benchmark, new each", 6301, redis(6301, "-k", "0", "-c", "10", "-n", share(18))),
        Step("redis-benchmark, kept", 6302, redis(6302, "-c", "50", "-n", share(50))),
        Step("redis-cli", 6303, cli, int(share(2))),
        Step("pgbench, new each", 5401, (*pgbench, "-p", "5401", "-U", _USER, "postgres")),
        Step("iperf3, to the server", 5201, (*iperf, "-p", "5201")),
        Step("iperf3, to the client", 5202, (*iperf, "-p", "5202", "-R")),
    ]


def absent(step: Step) -> str:
    """The program that this step lacks on this machine, or nothing."""
    server = SERVED_BY[step.port // 100]
    if not (_postgres() if server == "postgres" else shutil.which(server)):
        return server
    return "" if shutil.which(step.command[0]) else step.command[0]


class Servers:
    """The server programs of one run, inside the server's namespace, until ``stop``."""

    def __init__(self, network: Network, work: Path, log: Path, ports: list[int]) -> None:
        self._prefix = ("ip", "netns", "exec", network.names["server"])
        self._work, self._log = work, log
        self._running: list[subprocess.Popen[bytes]] = []
        try:
            self._start(ports)
        except BaseException:
            self.stop()
            raise

    def _start(self, ports: list[int]) -> None:
        self._nginx([port for port in ports if SERVED_BY[port // 100] == "nginx"])
        for port in ports:
            if SERVED_BY[port // 100] == "redis-server":
                options = ("--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--dir", str(self._work))
                self._spawn("redis-server", "--port", str(port), *options)
            elif SERVED_BY[port // 100] == "iperf3":
                self._spawn("iperf3", "-s", "-p", str(port))
            elif SERVED_BY[port // 100] == "postgres":
                self._cluster(port)

    def _spawn(self, *command: str) -> None:
        with self._log.open("ab") as log:
            self._running.append(
                subprocess.Popen((*self._prefix, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _nginx(self, ports: list[int]) -> None:
        if not ports:
            return
        (self._work / "large").write_bytes(b"All work and no play. " * (_LARGE_OCTETS // 22))

        def listen(kind: int) -> str:
            return " ".join(f"listen {port}; listen [::]:{port};" for port in ports if port // 100 == kind)

        settings = {"kept": listen(_KEPT), "closed": listen(_CLOSED), "idle": listen(_IDLE)}
        text = _NGINX.format(work=self._work, text="A small answer. " * 20, **settings)
        (self._work / "nginx.conf").write_text(text)
        self._spawn("nginx", "-c", str(self._work / "nginx.conf"))

    def _cluster(self, port: int) -> None:
        """A new PostgreSQL cluster that trusts everyone; the server refuses to run as root."""
        folder, programs = self._work / "pg", _postgres()
        folder.mkdir()
        shutil.chown(folder, "postgres", "postgres")
        become = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        initdb = (*become, f"{programs}/initdb", "-D", str(folder), "-A", "trust", "-U", _USER, "-N")
        subprocess.run(initdb, check=True, capture_output=True, timeout=60, cwd=folder)
        with (folder / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n")
        options = ("-c", "listen_addresses=*", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off")
        self._spawn(*become, f"{programs}/postgres", "-D", str(folder), "-p", str(port), *options)

    def stop(self) -> None:
        """End every server that was started here."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def _postgres() -> str:
    """The folder of PostgreSQL's server programs (Debian keeps it off the PATH), or nothing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return str(found[-1].parent) if found else ""
