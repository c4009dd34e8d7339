"""Dashboards have the types of Grafana's published schema (@grafana/schema of npm), and would be refused if they had not."""
import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "dashboards"
PACKAGES = {"@grafana/schema": "11.1.0", "typescript": "5.4.5"}
NPM = shutil.which("npm")

pytestmark = [pytest.mark.ci, pytest.mark.skipif(not (NPM and shutil.which("node")), reason="no node and npm here")]


def first_of(board, kind):
    return next(panel for panel in board["panels"] if panel["type"] == kind)


# What a slip in the generator might make; each is to be refused.
SLIPS = {
    "a field that does not exist": lambda board: first_of(board, "timeseries").update(gridpos={}),
    "a wrong type": lambda board: first_of(board, "timeseries")["fieldConfig"]["defaults"].update(unit=5),
    "a word that does not exist": lambda board: first_of(board, "timeseries")["fieldConfig"]["defaults"]["custom"].update(drawStyle="crayon"),
    "an option of another panel": lambda board: first_of(board, "stat")["options"].update(rowHeight=1),
    "an option that is missing": lambda board: first_of(board, "heatmap")["options"].pop("color"),
    "a query without an expression": lambda board: first_of(board, "stat")["targets"][0].pop("expr"),
    "a variable of no kind": lambda board: board["templating"]["list"][1].update(type="guess"),
    "a panel of no kind": lambda board: first_of(board, "stat").update(type="oracle"),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """typed({name: dashboard}) says for each what the compiler has against it."""
    directory = tmp_path_factory.mktemp("types")
    (directory / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
    subprocess.run([NPM, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=directory,
                   check=True, timeout=120)

    def check(boards):
        preamble = (HERE / "grafana_types.ts").read_text()
        for name, board in boards.items():
            (directory / f"{name}.ts").write_text(f"{preamble}\nexport const board: OurDashboard = {json.dumps(board, indent=1)};\n")
        compiler = directory / "node_modules" / ".bin" / "tsc"
        options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext", "--pretty", "false"]
        done = subprocess.run([compiler, *options, *(f"{name}.ts" for name in boards)], cwd=directory, capture_output=True, text=True,
                              env={**os.environ, "NO_COLOR": "1"}, timeout=120)
        complaints = {name: [] for name in boards}
        for line in done.stdout.splitlines():
            if found := re.match(r"(\S+)\.ts\(\d+,\d+\): error (.*)", line):
                complaints[found[1]].append(found[2])
        assert done.returncode == 0 or any(complaints.values()), done.stdout + done.stderr
        return complaints

    return check


def test_dashboards_have_the_published_types(typed):
    boards = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    assert len(boards) == 3
    slips = {}
    for number, spoil in enumerate(SLIPS.values()):
        slips[f"slip{number}"] = board = copy.deepcopy(boards["ringmain-overview"])
        spoil(board)
    complaints = typed({**boards, **slips})
    assert {name: complaints[name] for name in boards} == {name: [] for name in boards}
    unnoticed = [what for number, what in enumerate(SLIPS) if not complaints[f"slip{number}"]]
    assert unnoticed == []
