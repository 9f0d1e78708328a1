"""Heavy packages are imported where they are needed, never by `import observer` or for a small capture."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "observer"
HEAVY = {"pandas", "matplotlib", "scapy", "numba", "pyarrow", "dask", "distributed", "IPython"}
LAZY = HEAVY | {"rich", "llvmlite", "isal", "zstandard"}
MODULES = sorted(PACKAGE.rglob("*.py"))

REPORT = """
import json, sys
sys.argv[1:] = {arguments!r}
status = 0
try:
    {statement}
except SystemExit as end:
    status = end.code or 0
top = sorted({{name.partition(".")[0] for name in sys.modules}})
print("\\n" + json.dumps([status, top]))
"""


def modules_after(statement: str, *arguments: str) -> set[str]:
    """Top-level modules loaded by a fresh process that ran the statement."""
    script = REPORT.format(statement=statement, arguments=list(arguments))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent, timeout=60
    )
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stdout + done.stderr
    return set(loaded)


def test_import_is_light() -> None:
    loaded = modules_after("import observer")
    assert "observer" in loaded
    assert not loaded & LAZY


def test_reading_a_small_capture_is_light(captures: Path) -> None:
    capture = captures / "orderly-close-client.pcap"
    loaded = modules_after("from observer.cli import main; main()", "read", str(capture))
    assert "observer" in loaded
    assert not loaded & HEAVY


def test_python_api_reads_without_pandas(captures: Path) -> None:
    loaded = modules_after("import observer; observer.read(sys.argv[1])", str(captures / "orderly-close-client.pcap"))
    assert not loaded & HEAVY


ON_DEMAND = {
    "translate.py": "only imported to compile kernels, by a function of observer.kernels",
    "live_screen.py": "only imported to show a screen, by a function of observer.commands.live",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_heavy_packages_inside_functions(path: Path) -> None:
    """Import-linter sees every import; only those at the top of a module cost every process."""
    if path.name in ON_DEMAND:
        pytest.skip(ON_DEMAND[path.name])
    found = {name for node in top_level(ast.parse(path.read_text()).body) for name in imported(node)}
    assert not found & LAZY


def top_level(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that run on import: those of `if` and `try` too, but not of `if TYPE_CHECKING`."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            found += top_level(node.body) + top_level(node.orelse)
        elif isinstance(node, ast.Try):
            found += top_level(node.body)
        else:
            found.append(node)
    return found


def imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module.partition(".")[0]]
    return []
