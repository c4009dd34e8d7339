"""Fixtures of the black-box tests. The binaries are those under RINGMAIN_BUILD (default: build/ of the checkout).

RINGMAIN_SANITIZER=1 says that they carry a sanitizer: deadlines stretch and memory bounds are not checked.
RINGMAIN_DISABLE reaches the proxy as it is, so the whole suite can run with optional kernel features off.
"""
import os
import shutil
import tempfile

import pytest

import peers
import proxy as proxy_module

if not os.path.exists(proxy_module.RINGMAIN):
    pytest.exit(f"{proxy_module.RINGMAIN} does not exist: build first, or set RINGMAIN_BUILD", returncode=2)
proxy_module.raise_file_limit()


@pytest.fixture
def launch(tmp_path):
    """launch(settings, ...) starts a proxy without waiting for it; after the test it must have ended cleanly."""
    started = []

    def start(settings, **options):
        directory = options.pop("directory", tmp_path)
        started.append(proxy_module.Ringmain(directory, settings, **options))
        return started[-1]

    yield start
    errors = []
    for item in reversed(started):
        try:
            item.finish()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def own(launch):  # set up after it, so that clients and servers close before the proxy is told to end
    """Keeps what has a close() and closes it after the test, the last first: `server = own(EchoServer())`."""
    kept = []

    def keep(item):
        kept.append(item)
        return item

    yield keep
    for item in reversed(kept):
        item.close()


@pytest.fixture
def ringmain(launch):
    """ringmain(settings, ...) starts a proxy and waits until it is ready."""

    def start(settings, **options):
        return launch(settings, **options).wait_ready()

    return start


@pytest.fixture
def session(own):
    """session(proxy, manual_server) opens one: (the client's socket, the server's socket)."""

    def open_session(proxy, server, **options):
        client = own(peers.connect(proxy.address, **options))
        return client, server.accept()

    return open_session


@pytest.fixture
def public_dir():
    """A directory that every user may enter (tmp_path is for this user only)."""
    path = tempfile.mkdtemp(prefix="ringmain-test-")
    os.chmod(path, 0o777)
    yield path
    shutil.rmtree(path)
