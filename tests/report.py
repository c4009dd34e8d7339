#!/usr/bin/python3
"""Sums up the results that tests/run.sh gathered in a folder: *.json (GoogleTest), *.xml (pytest), failures.txt (one
line for each suite that failed without saying so in its results: did not build, crashed, ran out of time).

Prints the slowest tests, what was skipped and why, what failed, and last `N passed, N failed`. Exit code 1 if any
failed.

`report.py --none-failed FILE` only says by its exit code whether no test in that file failed.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

SLOWEST = 10
SLOW_SECONDS = 0.1  # faster ones are not worth a line


def from_gtest(path):
    """Yields (name, seconds, outcome, text) for each test."""
    for suite in json.loads(path.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            name = f"{path.stem} {suite['name']}.{test['name']}"
            failures = [failure["failure"] for failure in test.get("failures", [])]
            skipped = test.get("result") == "SKIPPED" or test.get("status") == "NOTRUN"
            outcome = "failed" if failures else "skipped" if skipped else "passed"
            yield name, float(test.get("time", "0s").rstrip("s")), outcome, "\n".join(failures)


def from_pytest(path):
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{path.stem} {case.get('classname')}.{case.get('name')}"
        outcome, text = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, text = "failed", child.get("message", "")
            elif child.tag == "skipped":
                outcome, text = "skipped", child.get("message", "")
        yield name, float(case.get("time", 0)), outcome, text


def gather(paths):
    tests = []
    for path in paths:
        if path.suffix == ".json":
            tests += from_gtest(path)
        elif path.suffix == ".xml":
            tests += from_pytest(path)
        elif path.name == "failures.txt":
            tests += [(line, 0.0, "failed", "") for line in path.read_text().splitlines()]
        elif path.name == "passes.txt":  # suites that are one test
            tests += [(line, 0.0, "passed", "") for line in path.read_text().splitlines()]
    return tests


def main():
    if sys.argv[1] == "--none-failed":
        return 1 if any(test[2] == "failed" for test in gather([pathlib.Path(sys.argv[2])])) else 0
    tests = gather(sorted(pathlib.Path(sys.argv[1]).iterdir()))
    count = {outcome: sum(1 for test in tests if test[2] == outcome) for outcome in ("passed", "failed", "skipped")}
    print("slowest tests:")
    slow = [test for test in tests if test[1] >= SLOW_SECONDS]
    for name, seconds, _, _ in sorted(slow, key=lambda test: -test[1])[:SLOWEST]:
        print(f"  {seconds:7.2f} s  {name}")
    for outcome in ("skipped", "failed"):
        for name, _, _, text in (test for test in tests if test[2] == outcome):
            print(f"{outcome}: {name}{': ' + text.splitlines()[0] if text else ''}")
    print(f"{count['passed']} passed, {count['failed']} failed")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
