#!/usr/bin/python3
"""Checks the include table of the design and a few house rules. Prints `file:line: what` for each violation; exit
code 1 if any.

The table is FOLDERS below: which folders of src/ a folder may include. Every folder may include base. loadtest/ and
tests/ are free.
"""

import pathlib
import re
import sys

MAX_LINES = 450  # of a file in src/

ALL = {"log", "config", "uring", "upstream", "balance", "metrics", "protocol", "session", "worker", "health",
       "discovery", "takeover", "admin", "sandbox", "top"}
FOLDERS = {
    "base": set(),
    "log": {"config"},  # LogConfig
    "config": set(),
    "uring": {"config"},  # SocketOptions
    "upstream": {"config"},
    "balance": {"upstream"},
    "metrics": set(),
    "protocol": set(),
    "session": {"uring", "upstream", "metrics", "protocol", "takeover"},
    "worker": {"session", "balance", "upstream", "uring", "metrics", "config", "log", "takeover"},
    "health": {"uring", "upstream", "config", "metrics", "log"},
    "discovery": {"upstream", "config", "metrics", "log"},
    "takeover": {"config", "upstream", "metrics"},
    "admin": {"metrics", "upstream", "config", "log"},
    "sandbox": {"config", "log"},
    "top": set(),
    "process": ALL,
    "main.cc": {"process", "config", "top", "log"},
}

# In src/, a header that starts so belongs to this folder only.
LIBRARIES = {
    "spdlog/": "log",
    "yaml-cpp/": "config",
    "re2/": "config",
    "liburing": "uring",
    "prometheus/": "admin",
    "ares.h": "discovery",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def owner(path):
    """The row of FOLDERS that a path below src/ belongs to."""
    return path.parts[1]


def check_include(path, quote, header):
    """What is wrong with this include of the file `path` below src/, or None."""
    who = owner(path)
    for prefix, only in LIBRARIES.items():
        if header.startswith(prefix) and who != only:
            return f"{header} belongs to {only} only"
    if quote != '"':
        return None
    target = header.split("/")[0]
    if target in FOLDERS and target not in FOLDERS.get(who, set()) | {who, "base"}:
        return f"{who} may not include {target}"
    return None


def check_file(root, path):
    """Yields (line, what) for one file."""
    text = (root / path).read_text(encoding="utf-8")
    lines = text.splitlines()
    in_src = path.parts[0] == "src"
    if in_src and owner(path) not in FOLDERS:
        yield 1, f"src/{owner(path)} is not in the include table"
    if in_src and len(lines) > MAX_LINES:
        yield len(lines), f"more than {MAX_LINES} lines"
    is_header = path.suffix == ".h"
    if is_header and "#pragma once" not in lines:
        yield 1, "header without #pragma once"
    for number, line in enumerate(lines, 1):
        if is_header and re.match(r"\s*using\s+namespace\b", line):
            yield number, "using namespace in a header"
        match = in_src and INCLUDE.match(line)
        wrong = match and check_include(path, *match.groups())
        if wrong:
            yield number, wrong


def check_tree(root):
    """All violations below `root`, as lines of text."""
    violations = []
    for top in ("src", "loadtest", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".h", ".cc"):
                relative = path.relative_to(root)
                violations += [f"{relative}:{line}: {what}" for line, what in check_file(root, relative)]
    return violations


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    violations = check_tree(root)
    print("\n".join(violations) if violations else "includes: clean")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
