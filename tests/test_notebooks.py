"""The notebooks, from top to bottom, on small runs, but for one; and as they are shipped."""

import os

import pytest
from folders import ROOT

nbformat = pytest.importorskip("nbformat")
NotebookClient = pytest.importorskip("nbclient").NotebookClient

FOLDER = ROOT / "notebooks"
TINY = {
    "num_envs": "4", "updates_per_step": "2", "batch_size": "16", "widths": "8", "warmup_steps": "40",
    "total_steps": "280", "num_evals": "4", "eval_episodes": "2", "buffer_size": "200",
}  # fmt: skip
PARAMETERS = {
    "quickstart": "seeds, said = 2, {settings}",
    "python_interface": "seeds, said = 2, {settings}",
    "custom_environment": "seeds, said = 2, {settings}",
    "sample_efficiency": "runs, env = {runs!r}, 'Pendulum-v1'",
    "seeds_and_statistics": "runs = [{runs!r}]",
    "paper_plots": "runs = '../results'",  # what is published is for tasks that take minutes to compile
}
FIGURES = {
    "quickstart": 1, "python_interface": 1, "custom_environment": 1, "sample_efficiency": 2, "seeds_and_statistics": 1,
    "paper_plots": 4,
}  # fmt: skip


def pictures(notebook):
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def has_bar(notebook):
    """Whether an output is a progress bar that has reached its end."""
    return any(
        "ended  " in output.get("data", {}).get("text/plain", "") and "<progress value=" in output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def last_output(notebook):
    """What its last cell says; of paper_plots what was not run."""
    return [output.data["text/plain"] for output in notebook.cells[-1].get("outputs", [])]


def test_every_notebook_is_tested():
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == PARAMETERS.keys() == FIGURES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_notebook_runs_from_top_to_bottom(name, pendulums, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    shipped = last_output(notebook)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    settings = {key: int(value) for key, value in TINY.items() if key != "widths"} | {"widths": [8]}
    cell.source = PARAMETERS[name].format(runs=str(pendulums["td3"].parent), settings=settings)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert pictures(notebook) >= FIGURES[name]
    assert name != "python_interface" or has_bar(notebook)
    if name == "paper_plots":
        assert last_output(notebook) == shipped, "results/ has changed; run the notebook again"


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_shipped_notebook_shows_what_it_printed_when_it_ran(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(notebook) >= FIGURES[name] and has_bar(notebook) == (name == "python_interface")
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
