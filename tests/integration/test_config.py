"""Configuration files and command lines: what is wrong is said in one line, at its place."""
import re

import pytest

from peers import EchoServer, connect, ping
from proxy import run_command

BASE = """\
workers: 1
admin:
  listen: 127.0.0.1:0
log: { level: info }
limits: { max_connections: 100 }
drain: { timeout: 1s }
listeners:
  - name: front
    listen: 127.0.0.1:0
    upstream: back
upstreams:
  - name: back
    balance: round_robin
    connect_timeout: 1s
    servers:
      - { address: 127.0.0.1:7001 }
      - { address: 127.0.0.1:7002, weight: 2 }
"""

# (what, the text to replace in BASE, its replacement with ¦ where the error is, words that the message must hold).
CASES = [
    ("unknown top-level key", "workers:", "¦wrokers:", ["wrokers", "workers"]),
    (
        "unknown key of a listener",
        "    upstream: back",
        "    upstream: back\n    ¦idle_timout: 1s",
        ["idle_timout", "idle_timeout"],
    ),
    ("unknown key of an upstream", "    balance:", "    ¦balanse:", ["balanse", "balance"]),
    ("unknown key of a server", "weight: 2", "¦wieght: 2", ["wieght", "weight"]),
    ("unknown key of limits", "max_connections: 100", "¦max_conections: 100", ["max_connections"]),
    ("unknown key of drain", "drain: { timeout", "drain: { ¦timeuot", ["timeout"]),
    (
        "unknown key of a health check",
        "connect_timeout: 1s",
        "health_check: { type: tcp, ¦intervall: 1s }",
        ["interval"],
    ),
    ("duration without a unit", "connect_timeout: 1s", "connect_timeout: ¦1", ["connect_timeout", "2s"]),
    ("duration with a wrong unit", "connect_timeout: 1s", "connect_timeout: ¦1 fortnight", ["connect_timeout"]),
    ("size as a duration", "connect_timeout: 1s", "connect_timeout: ¦64KiB", ["connect_timeout"]),
    ("negative duration", "connect_timeout: 1s", "connect_timeout: ¦-1s", ["connect_timeout"]),
    ("huge duration", "connect_timeout: 1s", "connect_timeout: ¦99999999999999999999s", ["connect_timeout"]),
    ("size with a wrong unit", "max_connections: 100", "buffer_per_direction: ¦256kb", ["buffer_per_direction", "KiB"]),
    ("size too small", "max_connections: 100", "buffer_per_direction: ¦1B", ["buffer_per_direction"]),
    ("not a number", "workers: 1", "workers: ¦many", ["workers", "auto"]),
    ("no worker", "workers: 1", "workers: ¦0", ["workers"]),
    ("too many workers", "workers: 1", "workers: ¦100000", ["workers"]),
    ("weight of nothing", "weight: 2", "weight: ¦0", ["weight"]),
    ("fraction as a weight", "weight: 2", "weight: ¦1.5", ["weight"]),
    ("unknown upstream", "upstream: back", "upstream: ¦bcak", ["bcak", "back"]),
    ("unknown balance", "balance: round_robin", "balance: ¦round_robbin", ["round_robbin", "round_robin"]),
    ("unknown log level", "level: info", "level: ¦verbose", ["verbose", "info"]),
    ("unknown health check", "connect_timeout: 1s", "health_check: { type: ¦icmp }", ["icmp", "tcp"]),
    ("address without a port", "address: 127.0.0.1:7001", "address: ¦127.0.0.1", ["127.0.0.1"]),
    ("port out of range", "address: 127.0.0.1:7001", "address: ¦127.0.0.1:70000", ["70000"]),
    ("server on port 0", "address: 127.0.0.1:7001", "address: ¦127.0.0.1:0", ["port"]),
    ("host name", "address: 127.0.0.1:7001", "address: ¦example.com:80", ["example.com"]),
    ("IPv6 without brackets", "address: 127.0.0.1:7001", "address: '¦::1:80'", ["::1"]),
    ("not an address", "    listen: 127.0.0.1:0", "    listen: ¦everywhere", ["everywhere"]),
    ("unix socket without a path", "    listen: 127.0.0.1:0", "    listen: ¦'unix:'", ["path"]),
    ("unix path too long", "    listen: 127.0.0.1:0", "    listen: ¦unix:/" + "a" * 120, ["107"]),
    ("duplicate server", "127.0.0.1:7002", "¦127.0.0.1:7001", ["127.0.0.1:7001"]),
    ("duplicate key", "log:", "workers: 2\nlog:", ["duplicate", "workers"]),
    ("map for a value", "level: info", "level: ¦{ a: b }", ["level"]),
    ("list for a value", "balance: round_robin", "balance: ¦[a, b]", ["balance"]),
    ("value for a map", "drain: { timeout: 1s }", "drain: ¦1s", ["drain"]),
    ("no value", "workers: 1", "¦workers:", ["workers"]),
    ("admin on a unix socket", "listen: 127.0.0.1:0\nlog", "listen: ¦unix:/tmp/x\nlog", ["admin"]),
]


def _place(text):
    """Line and column of ¦, 1-based."""
    before = text[: text.index("¦")]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


@pytest.mark.sanitizer
@pytest.mark.parametrize("what, old, new, words", CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_error_at_its_place(what, old, new, words, tmp_path):
    assert BASE.count(old) >= 1
    marked = BASE.replace(old, new, 1)
    if "¦" not in marked:
        marked = marked.replace(new, "¦" + new, 1)
    line, column = _place(marked)
    # A quoted scalar starts at its quote.
    if marked[marked.index("¦") - 1] == "'":
        column -= 1
    path = tmp_path / "ringmain.yaml"
    path.write_text(marked.replace("¦", ""))

    done = run_command("check", str(path))
    assert done.returncode == 1
    message = done.stdout + done.stderr
    assert message.startswith(f"{path}:{line}:{column}: "), message
    assert len(message.splitlines()) == 1, message
    for word in words:
        assert word in message

    done = run_command("run", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}:{line}:{column}: ") and len(done.stderr.splitlines()) == 1, done.stderr


# Errors of which the exact place is a matter of taste: it must be one, and in the right lines.
BROKEN = [
    ("a missing upstream", BASE.replace("    upstream: back\n", ""), ["upstream"], (8, 9)),
    ("a missing name", BASE.replace("  - name: front\n    listen", "  - listen"), ["name"], (8, 8)),
    ("a missing address", BASE.replace("address: 127.0.0.1:7001", "weight: 1"), ["address"], (16, 16)),
    (
        "two listeners of one name",
        BASE.replace("upstreams:", "  - { name: front, listen: 127.0.0.1:0, upstream: back }\nupstreams:"),
        ["front"],
        (11, 11),
    ),
    (
        "two upstreams of one name",
        BASE + "  - { name: back, servers: [ { address: 127.0.0.1:1 } ] }\n",
        ["back"],
        (18, 18),
    ),
    (
        "two listeners on one address",
        BASE.replace(
            "listen: 127.0.0.1:0\n    upstream: back", "listen: [127.0.0.1:5000, 127.0.0.1:5000]\n    upstream: back"
        ),
        ["127.0.0.1:5000"],
        (9, 9),
    ),
    ("no listeners", BASE[: BASE.index("listeners")] + BASE[BASE.index("upstreams") :], ["listeners"], (1, 20)),
    ("no servers", BASE[: BASE.index("    servers")], ["servers"], (12, 14)),
    ("an empty list", BASE[: BASE.index("    servers")] + "    servers: []\n", ["servers"], (15, 15)),
    ("a tab", BASE.replace("  listen", "\tlisten", 1), [], (2, 3)),
    ("an open bracket", BASE.replace("level: info }", "level: info"), [], (4, 6)),
    ("no map", "just words\n", [], (1, 1)),
    ("an empty file", "", [], (1, 1)),
    ("two documents", BASE + "---\n" + BASE, [], (1, 20)),
]


@pytest.mark.parametrize("what, text, words, lines", BROKEN, ids=[case[0].replace(" ", "-") for case in BROKEN])
def test_broken_files(what, text, words, lines, tmp_path):
    path = tmp_path / "ringmain.yaml"
    path.write_text(text)
    done = run_command("check", str(path))
    assert done.returncode == 1
    message = done.stdout + done.stderr
    match = re.match(re.escape(str(path)) + r":(\d+):(\d+): \S", message)
    assert match, message
    assert lines[0] <= int(match[1]) <= lines[1], message
    for word in words:
        assert word in message
    assert run_command("run", "--config", str(path)).returncode == 2


def test_all_errors_of_a_file_in_its_order(tmp_path):
    path = tmp_path / "ringmain.yaml"
    path.write_text(
        BASE.replace("workers: 1", "workers: x").replace("weight: 2", "weight: x").replace("level: info", "levle: info")
    )
    done = run_command("check", str(path))
    assert [line.split(":")[1] for line in (done.stdout + done.stderr).splitlines()] == ["1", "4", "17"]


@pytest.mark.sanitizer
def test_right_file(tmp_path):
    path = tmp_path / "ringmain.yaml"
    path.write_text(BASE)
    done = run_command("check", str(path))
    assert done.returncode == 0 and done.stderr == ""


def test_unreadable_files(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        for arguments, code in ((("check",), 1), (("run", "--config"), 2)):
            done = run_command(*arguments, str(path))
            message = done.stdout + done.stderr
            assert done.returncode == code and str(path) in message and len(message.splitlines()) == 1, message


def test_hostile_files(tmp_path):
    """Files that are not YAML at all, or too much of it: an error in a moment, no crash."""
    path = tmp_path / "ringmain.yaml"
    bomb = "a: &a [x]\n" + "".join(
        f"{c}: &{c} [{', '.join('*' + chr(ord(c) - 1) for _ in range(9))}]\n" for c in "bcdefghij"
    )
    for text in (
        bytes(range(256)) * 50,
        b"[" * 100_000,
        b"{" * 100_000,
        b"- " * 50_000,
        bomb.encode(),
        b"&a [*a]",
        b"\xff\xfe" + b"a\0" * 99,
    ):
        path.write_bytes(text)
        done = run_command("check", str(path), timeout=20)
        message = done.stdout + done.stderr
        assert done.returncode == 1 and message.startswith(f"{path}:"), (text[:20], done.returncode, message[:500])


COMMAND_LINES = [
    (),
    ("frobnicate",),
    ("--frobnicate",),
    ("run",),
    ("run", "--config"),
    ("run", "--frobnicate"),
    ("run", "--config", "a.yaml", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"),
    ("run", "--listen", "127.0.0.1:0"),
    ("run", "--to", "127.0.0.1:1"),
    ("run", "--listen", "nonsense", "--to", "127.0.0.1:1"),
    ("run", "--listen", "127.0.0.1:0", "--to", "nonsense"),
    ("run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1,,127.0.0.1:2"),
    ("run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1,127.0.0.1:1"),
    ("run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--admin", "nonsense"),
    ("run", "--listen", "127.0.0.1:99999", "--to", "127.0.0.1:1"),
    ("run", "surplus", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"),
    ("check",),
    ("check", "a.yaml", "b.yaml"),
    ("version", "surplus"),
]


@pytest.mark.sanitizer
@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=[" ".join(a) or "nothing" for a in COMMAND_LINES])
def test_wrong_command_lines(arguments):
    done = run_command(*arguments)
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1 and done.stdout == "", done
    wrong = [
        word for word in arguments if "nonsense" in word or "frobnicate" in word or "surplus" in word or "99999" in word
    ]
    assert all(word in done.stderr for word in wrong), done.stderr


def test_version_and_help():
    done = run_command("version")
    assert done.returncode == 0 and re.search(r"ringmain \d+\.\d+\.\d+", done.stdout) and done.stderr == ""
    done = run_command("--help")
    assert done.returncode == 0 and all(word in done.stdout for word in ("run", "check", "version"))


def test_unknown_disabled_feature(tmp_path):
    path = tmp_path / "ringmain.yaml"
    path.write_text(BASE)
    done = run_command("run", "--config", str(path), env={"RINGMAIN_DISABLE": "warp_drive"})
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "warp_drive" in line]
    assert len(lines) == 1 and "RINGMAIN_DISABLE" in lines[0] and "optlen" in lines[0], done.stderr


@pytest.mark.sanitizer
def test_run_without_a_file(own, launch):
    servers = [own(EchoServer()) for _ in range(2)]
    to = ",".join(server.address for server in servers)
    proxy = launch(
        None, arguments=["run", "--listen", "127.0.0.1:0", "--to", to, "--admin", "127.0.0.1:0"]
    ).wait_ready()
    for _ in range(4):
        client = own(connect(proxy.address))
        ping(client, 0, 5000)
        client.close()
    proxy.wait_active(0)
    for server in servers:
        assert proxy.metric("ringmain_server_up", server=server.address) == 1
