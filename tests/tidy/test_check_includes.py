"""The include table holds in this repository, and the check would notice if it did not."""

import pathlib

import pytest

import check_includes

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_repository_is_clean():
    assert check_includes.check_tree(ROOT) == []


@pytest.mark.parametrize("path, text, expected", [
    ("src/session/a.h", '#pragma once\n#include "worker/worker.h"\n',
     "src/session/a.h:2: session may not include worker"),
    ("src/balance/a.cc", '#include "uring/ring.h"\n', "src/balance/a.cc:1: balance may not include uring"),
    ("src/worker/a.cc", "#include <liburing.h>\n", "src/worker/a.cc:1: liburing.h belongs to uring only"),
    ("src/config/a.cc", "#include <spdlog/spdlog.h>\n", "src/config/a.cc:1: spdlog/spdlog.h belongs to log only"),
    ("src/main.cc", '#include "worker/worker.h"\n', "src/main.cc:1: main.cc may not include worker"),
    ("src/util/a.cc", "\n", "src/util/a.cc:1: src/util is not in the include table"),
    ("src/base/a.h", "\n", "src/base/a.h:1: header without #pragma once"),
    ("tests/unit/a.h", "#pragma once\nusing namespace ringmain;\n", "tests/unit/a.h:2: using namespace in a header"),
    ("src/base/a.cc", "\n" * 451, "src/base/a.cc:451: more than 450 lines"),
], ids=lambda value: value.split(": ")[-1] if ": " in value else "")
def test_violation_is_found(tmp_path, path, text, expected):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert check_includes.check_tree(tmp_path) == [expected]


def test_allowed_includes_pass(tmp_path):
    for path, text in {
        "src/session/a.h": '#pragma once\n#include "uring/io.h"\n#include "base/clock.h"\n#include "session/b.h"\n',
        "src/uring/ring.h": "#pragma once\n#include <liburing.h>\n",
        "src/process/process.cc": '#include "worker/worker.h"\n#include "admin/admin_server.h"\n',
        "loadtest/echo.cc": "#include <liburing.h>\n#include <prometheus/registry.h>\n#include \"uring/ring.h\"\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert check_includes.check_tree(tmp_path) == []
