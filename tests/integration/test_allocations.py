"""No message costs an allocation. Counted in the worker's thread of the real program, by a preloaded library, while
messages flow."""
import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from peers import wait_until
from proxy import BUILD, ECHO, LOAD, RINGMAIN, config

COUNTER = BUILD / "tests" / "count_allocations.so"
ALWAYS_SPLICED = BUILD / "loadtest" / "ringmain-always-spliced"
SLOT = struct.Struct("QQ")  # as count_allocations.cc has it: thread id, calls
PAYLOAD = 64
WARM = 50_000
MEASURED = 200_000


class Counts:
    """What the preloaded library has counted."""

    def __init__(self, path):
        path.write_bytes(bytes(256 * SLOT.size))
        self.path = path
        self.environment = {"LD_PRELOAD": str(COUNTER), "COUNT_ALLOCATIONS": str(path)}

    def of(self, proxy, thread_name):
        """Calls of the thread of that name."""
        for thread, calls in SLOT.iter_unpack(self.path.read_bytes()):
            name = Path(f"/proc/{proxy.pid}/task/{thread}/comm")
            if thread and name.exists() and name.read_text().strip() == thread_name:
                return calls
        raise AssertionError(f"{thread_name} has allocated nothing: it is not counted")


@pytest.fixture
def echo():
    process = subprocess.Popen([ECHO, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().split("address=")[1].strip()
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("mode", ["buffered", "spliced", "copied"])
def test_none_in_steady_state(ringmain, echo, tmp_path, mode):
    if mode == "spliced" and "splice" in os.environ.get("RINGMAIN_DISABLE", "").split(","):
        pytest.skip("splicing is off")
    counts = Counts(tmp_path / "counts")
    binary = RINGMAIN if mode == "buffered" else str(ALWAYS_SPLICED)
    without_pipes = {"RINGMAIN_DISABLE": "splice"} if mode == "copied" else {}  # as bulk is then
    proxy = ringmain(config([echo]), env={**counts.environment, **without_pipes}, binary=binary)
    load = subprocess.Popen([LOAD, "ping", "--to", proxy.address, "--connections", "50", "--payload", str(PAYLOAD),
                             "--duration", "100s", "--quiet"], stdout=subprocess.DEVNULL)
    try:
        def round_trips():
            return proxy.metric("ringmain_bytes_total", direction="to_client") // PAYLOAD

        def more(count):
            """Waits for so many more round trips; how many there were since the start."""
            goal = round_trips() + count
            return wait_until(lambda: (now := round_trips()) >= goal and now, f"{count} more round trips", 40, 0.1)

        more(WARM)
        before, allocations_before = round_trips(), counts.of(proxy, "rm-worker-0")
        more(MEASURED)
        allocations, messages = counts.of(proxy, "rm-worker-0") - allocations_before, round_trips() - before
        spliced = proxy.metric("ringmain_worker_spliced_bytes_total")
        load.send_signal(signal.SIGTERM)
        assert load.wait(20) == 0
    finally:
        load.kill()
        load.wait()
    print(f"\n{mode}: {allocations} allocations of the worker in {messages:.0f} round trips")
    assert (spliced > MEASURED * PAYLOAD) == (mode == "spliced")
    assert messages >= MEASURED
    assert allocations == 0
