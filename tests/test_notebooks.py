"""The notebooks of the site run as scripts, and what each ends with, off the page, holds."""

import os
import subprocess
import sys

import pytest

from tests.test_readme import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "pages" / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "agg", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, notebook], check=False, capture_output=True, text=True, env=environment,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_on_the_site_and_checked(notebook):
    assert f"notebooks/{notebook.name}" in (ROOT / "docs" / "mkdocs.yml").read_text("utf-8")
    shown, checked = notebook.read_text("utf-8").split('# %% tags=["check"]\n')
    assert "## The trouble" in shown
    assert "## The mending" in shown
    assert "assert " not in shown
    assert checked.count("assert ") > 2
