"""A keep-alive pool of HTTP connections: ``pool.py HOST PORT CONNECTIONS ROUNDS PAUSE_S HOW``.

Opens CONNECTIONS with http.client, asks once on each in every round, and sleeps PAUSE_S between rounds. HOW is
``check`` (a connection that the server has closed meanwhile is replaced before it is used, as urllib3 does), ``hope``
(it is used all the same, so that a request may meet the server's idle time-out), or ``close`` (the client closes each
connection after its answer). Prints how many were replaced. Runs alone, in the client's namespace.
"""

from __future__ import annotations

import http.client
import select
import sys
import time


def ask(connection: http.client.HTTPConnection) -> bool:
    """One request and its answer on a connection; False where the server had closed it."""
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (http.client.HTTPException, OSError):
        connection.close()
        return False
    return True


def ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed an idle connection: then end of file waits to be read."""
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])


def main() -> None:
    host, port, count, rounds, pause_s = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    how = sys.argv[6]
    replaced = 0
    pool = [http.client.HTTPConnection(host, port, timeout=30) for _ in range(count)]
    for turn in range(rounds):
        for connection in pool:
            if how == "check" and ended(connection):
                replaced += 1
                connection.close()
            if not ask(connection):
                replaced += 1
                ask(connection)
            if how == "close":
                connection.close()
        if turn + 1 < rounds:
            time.sleep(pause_s)
    for connection in pool:
        connection.close()
    print(f"{replaced} connections replaced")


if __name__ == "__main__":
    main()
