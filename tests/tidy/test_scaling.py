"""deploy/SCALING.md says what tests/sim/scaling_test.cc computes."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_of_the_simulation_is_in_the_page():
    page = (ROOT / "deploy" / "SCALING.md").read_text(encoding="utf-8").splitlines()
    rows = re.findall(r'"(\| [^"]* \|)"', (ROOT / "tests" / "sim" / "scaling_test.cc").read_text(encoding="utf-8"))
    assert len(rows) > 20
    assert [row for row in rows if row not in page] == []
