"""The reference explains every key that the configuration knows."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A key is what a reading function of a MapReader is asked for.
KEY = re.compile(r'(?:map|rules|upstream_map|list)\.\w+\((?:k\w+, )?"([a-z_0-9]+)"')


def test_every_key_is_explained():
    keys = set()
    for source in (ROOT / "src" / "config").glob("schema*.cc"):
        keys |= set(KEY.findall(source.read_text()))
    assert len(keys) > 60, sorted(keys)
    reference = (ROOT / "deploy" / "REFERENCE.md").read_text()
    words = set(re.findall(r"[a-z_0-9]+", reference))
    assert not keys - words, f"not in deploy/REFERENCE.md: {sorted(keys - words)}"
