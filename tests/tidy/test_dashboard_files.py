"""Dashboards are what their generator writes; alerts and rules have the form that others rely on, and each has a unit test."""
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
THRESHOLD = re.compile(r"\s(==|!=|>|<|>=|<=)\s-?[0-9.]+$")


def generator():
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE = generator()


def rules(file, kind):
    groups = yaml.safe_load((FOLDER / "rules" / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def test_files_are_what_the_generator_writes():
    assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(MADE.DASHBOARDS)
    for file, make in MADE.DASHBOARDS.items():
        assert (FOLDER / file).read_text() == MADE.text_of(make), f"{file}: run dashboards/generate.py"


@pytest.mark.parametrize("file", MADE.DASHBOARDS)
def test_panels_have_places_of_their_own(file):
    board = json.loads((FOLDER / file).read_text())
    panels = board["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("file", MADE.DASHBOARDS)
def test_variables_that_are_used_are_there(file):
    text = (FOLDER / file).read_text()
    board = json.loads(text)
    known = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == known
    assert not re.findall(r"\b(INSTANCE|LISTENER|UPSTREAM|SERVER|WORKER|SPAN)\b", text)


def test_alerts_end_with_a_threshold():
    for alert in rules("ringmain-alerts.yml", "alert"):
        assert THRESHOLD.search(alert["expr"].strip()), alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description"}


def test_each_rule_has_a_unit_test():
    tests = yaml.safe_load((FOLDER / "rules" / "tests" / "rules_test.yml").read_text())["tests"]
    fire, silent = set(), set()
    for case in tests:
        for one in case["alert_rule_test"]:
            (fire if one.get("exp_alerts") else silent).add(one["alertname"])
    assert fire == {alert["alert"] for alert in rules("ringmain-alerts.yml", "alert")}
    assert silent <= fire and len(silent) >= 10
    asked = " ".join(one["expr"] for case in tests for one in case.get("promql_expr_test", []))
    for record in rules("ringmain-recording.yml", "record"):
        assert record["record"] in asked, record["record"]
