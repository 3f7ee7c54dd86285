"""The notebooks: nothing stored in them but text and code, and all of it runs."""

import pathlib
import re
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
# Each trains half a dozen methods.
LONG = {
    "02_sharpness",
    "03_decoupling_and_collapse",
    "05_weak_supervision",
    "06_self_supervised",
    "07_beyond_accuracy",
}


class ThisPython(AsyncKernelManager):
    """Kernels of the interpreter that runs the tests, whatever Jupyter knows of."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f"]
        return KernelSpec(argv=[*command, "{connection_file}"], language="python")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_nothing_is_stored_but_text_and_code(notebook, path):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None, cell.id
        assert not cell.metadata.get("execution"), cell.id
    assert not any(cell.get("attachments") for cell in notebook.cells)
    assert str(ROOT) not in path.read_text() and "/root" not in path.read_text()


def test_it_opens_the_way_every_notebook_does(notebook):
    """Badge; install, if need be; versions and devices; settings in one form."""
    first, *_ = notebook.cells
    assert first.cell_type == "markdown" and "colab-badge.svg" in first.source
    code = [cell.source for cell in code_cells(notebook)]
    installs = [k for k, text in enumerate(code) if "pip install" in text]
    assert installs == [0]
    assert re.search(r'if .*find_spec\("ltjax"\) is None:\n +%pip install', code[0])
    assert "%matplotlib inline" in code[1]
    assert "__version__" in code[1] and "jax.devices()" in code[1]
    forms = [k for k, text in enumerate(code) if "# @title" in text]
    assert forms == [2] and 'os.environ.get("LTJAX_SMOKE"' in code[2]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=pytest.mark.slow if path.stem in LONG else (),
        )
        for path in NOTEBOOKS
    ],
    indirect=True,
)
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / "here").mkdir()
    NotebookClient(
        notebook,
        timeout=None,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(tmp_path / "here")}},
    ).execute()

    outputs = [out for cell in code_cells(notebook) for out in cell.outputs]
    printed = "".join(out.text for out in outputs if out.output_type == "stream")
    assert "Warning" not in printed and "WARNING" not in printed
    assert "devices: [CpuDevice" in printed
    assert any("image/png" in out.get("data", {}) for out in outputs)
    last = code_cells(notebook)[-1]
    assert last.execution_count == len(code_cells(notebook))
    assert list((tmp_path / "here").iterdir()) == []  # a notebook leaves nothing behind
