"""The notebooks run from beginning to end, and the outputs that are saved in them are of that run.

After a change of what they show:  OBSERVER_UPDATE_NOTEBOOKS=1 python -m pytest tests/test_notebooks.py

Saved outputs are freed of what differs from run to run.  Cells with the tag "figures" print what the text around them
relies on: a new run must print the same.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.name for path in NOTEBOOKS]
LARGEST_OCTETS = 500_000
WIDGET = "application/vnd.jupyter.widget-view+json"
DATA_URL = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")
TIMEOUT_S = 240
UPDATE = bool(os.environ.get("OBSERVER_UPDATE_NOTEBOOKS"))


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=NAMES)
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A notebook, and the same after a run in a folder of its own."""
    path: Path = request.param
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(ROOT / "captures", folder / "captures")
    (folder / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    settings: dict[str, str | None] = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        # nothing of the user's is read or written, and there may be no home
        **{
            name: str(folder / name)
            for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
        },
        "JUPYTER_PLATFORM_DIRS": "1",
        "MPLBACKEND": None,  # the kernel chooses its own
    }
    before = {name: os.environ.get(name) for name in settings}
    set_environment(settings)
    try:
        client = nbclient.NotebookClient(
            notebook, timeout=TIMEOUT_S, startup_timeout=TIMEOUT_S, kernel_manager_class=this_python(),
            kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(folder / "notebooks")}},
        )  # fmt: skip
        client.execute()
    finally:
        set_environment(before)
    for cell in codes(notebook):  # such as that matplotlib looks for fonts, on a machine where it never ran
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    if UPDATE:
        path.write_text(written(cleaned(notebook)))
    return path, notebook


def set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def this_python() -> Any:
    """A kernel manager that starts this very interpreter, whatever kernels are installed."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return Manager


def cleaned(notebook: Any) -> Any:
    """Leave out what differs from run to run, and what only a running kernel can show; make pictures small."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
                data.pop("text/plain", None)
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output["metadata"] = {}
    return notebook


def smaller(picture: str) -> str:
    """A PNG (base64) with a palette."""
    from PIL import Image

    octets = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(octets, format="PNG", optimize=True)
    return base64.b64encode(octets.getvalue()).decode()


def written(notebook: Any) -> str:
    return json.dumps(json.loads(nbformat.writes(notebook)), indent=1, ensure_ascii=False) + "\n"


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def codes(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[str]:
    """What a cell put out: streams, and the kinds of data that a saved notebook keeps.

    What is printed comes in as many pieces as the machine makes of it: pieces of one stream are one.
    """
    found: list[str] = []
    for output in cell.outputs:
        data = sorted(set(output.get("data", ())) - {WIDGET})
        if "image/png" in data:
            data = ["image/png"]
        kind = " ".join([output.output_type, *data, *([output.name] if output.output_type == "stream" else [])])
        if output.output_type != "stream" or found[-1:] != [kind]:
            found.append(kind)
    return found


def test_there_are_four() -> None:
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04"]


def test_runs_and_shows_what_is_saved(executed: tuple[Path, Any]) -> None:
    path, fresh = executed
    saved = nbformat.read(path, as_version=4)
    assert len(codes(saved)) == len(codes(fresh))
    for old, new in zip(codes(saved), codes(fresh), strict=True):
        assert kinds(old) == kinds(new), f"{path.name}: other outputs than those that are saved for\n{new.source}"


def test_prints_the_figures_that_are_saved(executed: tuple[Path, Any]) -> None:
    path, fresh = executed
    saved = nbformat.read(path, as_version=4)
    compared = 0
    for old, new in zip(codes(saved), codes(fresh), strict=True):
        if "figures" in new.metadata.get("tags", ()):
            assert printed(new), new.source
            assert printed(old) == printed(new), f"{path.name} prints other figures than those that are saved"
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_is_saved_with_outputs_and_without_traces_of_a_machine(path: Path) -> None:
    text = path.read_text()
    saved = nbformat.reads(text, as_version=4)
    nbformat.validate(saved)
    cells = codes(saved)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", ()) for cell in cells for output in cell.outputs)
    assert not any(WIDGET in output.get("data", ()) for cell in cells for output in cell.outputs)
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    shown = DATA_URL.sub("", "".join(str(cell.outputs) for cell in cells))
    assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|usr)/", shown)
    assert len(text) < LARGEST_OCTETS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                assert (path.parent / target).exists(), target
