"""A server that dies before a byte was passed either way: its clients go to another, and see nothing of it."""
import pytest

from peers import EchoProcess, EchoServer, ManualServer, connect, expect_end, ping, reset, wait_until
from proxy import config


@pytest.mark.sanitizer
@pytest.mark.parametrize("end", ["reset", "fin"])
def test_quiet_clients_go_to_another(end, own, ringmain):
    """Long after they connected, too; what they say then is answered by the other server, every byte of it."""
    dies, other = own(ManualServer()), own(EchoServer())
    proxy = ringmain(config([dies.address, other.address], workers=2, listener={"idle_timeout": "1m"}))
    clients = [own(connect(proxy.address)) for _ in range(20)]
    upstreams = [dies.accept() for _ in range(10)]
    proxy.wait_metric("ringmain_server_connections_active", 20)
    dies.listener.close()
    for upstream in upstreams:
        reset(upstream) if end == "reset" else upstream.close()
    proxy.wait_metric("ringmain_server_connections_active", 20, server=other.address)
    for client in clients:
        ping(client, length=5000)
    assert proxy.metric("ringmain_server_connect_failures_total", server=dies.address, reason="lost") == 10
    assert proxy.metric("ringmain_connections_active") == 20 and proxy.closed() == {}
    assert proxy.metric("ringmain_server_connections_active", server=dies.address) == 0
    (line,) = proxy.log_lines("connect failed", "reason=lost")[:1]
    assert ("closed before a byte was passed" in line) == (end == "fin")


def test_a_killed_process_costs_quiet_clients_nothing(own, ringmain):
    dies, other = own(EchoProcess()), own(EchoServer())
    proxy = ringmain(config([dies.address, other.address], workers=2))
    clients = [own(connect(proxy.address)) for _ in range(10)]
    proxy.wait_metric("ringmain_server_connections_active", 5, server=dies.address)
    dies.kill()
    proxy.wait_metric("ringmain_server_connections_active", 10, server=other.address)
    for client in clients:
        ping(client)


@pytest.mark.parametrize("passed", ["to the server", "to the client"])
def test_a_single_byte_makes_the_end_the_clients(passed, own, ringmain):
    dies, other = own(ManualServer()), own(EchoServer())
    proxy = ringmain(config([dies.address, other.address]))
    client = own(connect(proxy.address))
    upstream = dies.accept()
    source, sink = (client, upstream) if passed == "to the server" else (upstream, client)
    source.sendall(b"x")
    assert sink.recv(1) == b"x"
    upstream.close()
    assert expect_end(client) == "fin"
    client.close()
    proxy.wait_closed(server_closed=1)
    assert other.active == 0 and proxy.metric("ringmain_server_connect_failures_total") == 0


@pytest.mark.parametrize("servers, options", [(1, {}), (3, {"connect_tries": 1}), (4, {"connect_tries": 3})])
def test_the_last_try_is_the_clients(servers, options, own, ringmain):
    """Servers that end every connection at once: so many are tried as for a connect, then the client sees the end."""
    all_close = [own(ManualServer()) for _ in range(servers)]
    proxy = ringmain(config([server.address for server in all_close], upstream=options))
    client = own(connect(proxy.address))
    tries = min(servers, options.get("connect_tries", 3))
    for server in all_close[:tries]:
        server.accept().close()
    assert expect_end(client) == "fin"
    client.close()
    proxy.wait_closed(server_closed=1)
    assert proxy.metric("ringmain_server_connect_failures_total", reason="lost") == tries - 1
    wait_until(lambda: proxy.metric("ringmain_server_connections_active") == 0, "nothing is left")
