"""What /metrics says of times, sizes, servers' connections, rings and the configuration: that it is true."""
import json
import time

from peers import EchoServer, connect, ping, wait_until
from proxy import config, parse_metrics


def total(metrics, name, **labels):
    return sum(value for have, value in metrics.get(name, {}).items() if set(labels.items()) <= set(have))


def reload_now(proxy):
    return proxy.get("/api/v1/reload", method="POST", headers={"Content-Type": "application/json"}, body="{}")[0]


def test_times_and_sizes_of_sessions(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    client, silent = connect(proxy.address), connect(proxy.address)
    proxy.wait_active(2)
    time.sleep(0.3)  # what is measured
    for i in range(20):
        ping(client, 64 * i)
    proxy.wait_metric("ringmain_first_byte_duration_seconds_count", 1, listener="front")
    assert 0.3 <= proxy.metric("ringmain_first_byte_duration_seconds_sum") < 5
    assert proxy.metric("ringmain_connection_bytes_count") == 0
    client.close()
    silent.close()
    proxy.wait_active(0)
    metrics = proxy.metrics()
    for direction in ("to_server", "to_client"):
        assert total(metrics, "ringmain_connection_bytes_sum", direction=direction) == 20 * 64
        assert total(metrics, "ringmain_connection_bytes_bucket", direction=direction, le="0") == 1
        assert total(metrics, "ringmain_connection_bytes_bucket", direction=direction, le="4096") == 2
    assert total(metrics, "ringmain_first_byte_duration_seconds_count") == 1


def test_live_connections_are_sampled(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    clients = [own(connect(proxy.address)) for _ in range(6)]
    position = 0

    def sampled():
        nonlocal position
        for client in clients:
            ping(client, position)
        position += 64
        return proxy.metric("ringmain_server_sampled_rtt_seconds_count") >= 20

    wait_until(sampled, "connections are sampled while they are in use")
    metrics = proxy.metrics()
    round_trip = total(metrics, "ringmain_server_sampled_rtt_seconds_sum") / total(metrics, "ringmain_server_sampled_rtt_seconds_count")
    assert 1e-6 < round_trip < 1, "of the loopback interface"
    segments = total(metrics, "ringmain_server_sampled_segments_total", server=echo.address)
    assert 20 <= segments <= 2 * len(clients) * position / 64
    assert total(metrics, "ringmain_server_sampled_retransmits_total") <= segments


def test_rings_count_what_a_message_takes(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    client = own(connect(proxy.address))
    ping(client)
    before = proxy.metrics()
    for i in range(1, 401):
        ping(client, 64 * i)
    after = proxy.metrics()

    def grown(name):
        return total(after, f"ringmain_worker_{name}_total") - total(before, f"ringmain_worker_{name}_total")

    assert 800 <= grown("messages") <= 820, "one each way"
    assert 800 <= grown("completions") <= 4000
    assert 400 <= grown("submissions") <= 4000
    assert 400 <= grown("enters") <= grown("system_calls") <= 4000
    wait_until(lambda: proxy.metric("ringmain_worker_cpu_seconds_total") > 0, "the worker's CPU time is noted")
    assert proxy.metric("ringmain_worker_cpu_seconds_total") <= proxy.metric("process_cpu_seconds_total")


def test_waits_and_health_checks(own, ringmain):
    echo = own(EchoServer())
    upstream = {"max_queue": 5, "queue_timeout": "10s", "health_check": {"type": "tcp", "interval": "100ms"}}
    proxy = ringmain(config([{"address": echo.address, "max_connections": 1}], upstream=upstream))
    first = connect(proxy.address)
    ping(first)
    second = own(connect(proxy.address))
    proxy.wait_metric("ringmain_upstream_queued", 1)
    assert proxy.metric("ringmain_queue_wait_duration_seconds_count") == 0
    time.sleep(0.2)  # what is measured
    first.close()
    ping(second)
    assert proxy.metric("ringmain_queue_wait_duration_seconds_count", upstream="back") == 1
    assert 0.2 <= proxy.metric("ringmain_queue_wait_duration_seconds_sum") < 5
    assert proxy.metric("ringmain_upstream_max_queue") == 5 and proxy.metric("ringmain_server_max_connections") == 1
    proxy.wait_metric("ringmain_health_check_duration_seconds_count", lambda count: count >= 3)
    assert 0 < proxy.metric("ringmain_health_check_duration_seconds_sum") < 5


def test_the_configuration_that_runs(own, ringmain):
    echo = own(EchoServer())
    settings = config([echo.address])
    one, other = ringmain(settings), ringmain(settings)
    for proxy in (one, other):  # ports are the same, 0, and so is the text
        proxy.config_path.write_text(json.dumps({"admin": {"listen": "127.0.0.1:0"}, **settings}))
        assert reload_now(proxy) == 200
    assert one.metric("ringmain_config_hash") == other.metric("ringmain_config_hash") != 0
    loaded = one.metric("ringmain_config_last_reload_timestamp_seconds")
    assert abs(loaded - time.time()) < 60
    assert loaded == one.metric("ringmain_config_last_reload_success_timestamp_seconds")
    before = one.metric("ringmain_config_hash")
    one.config_path.write_text("listeners: [")
    assert reload_now(one) == 422
    assert one.metric("ringmain_config_hash") == before
    assert one.metric("ringmain_config_last_reload_successful") == 0
    assert one.metric("ringmain_config_last_reload_timestamp_seconds") > loaded
    assert one.metric("ringmain_config_last_reload_success_timestamp_seconds") == loaded
    one.config_path.write_text(json.dumps({"admin": {"listen": "127.0.0.1:0"}, "drain": {"timeout": "500ms"}, **settings}))
    assert reload_now(one) == 200
    assert one.metric("ringmain_config_hash") not in (before, 0)
    assert one.metric("ringmain_config_last_reload_successful") == 1


def test_without_a_file_there_is_no_hash(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(None, arguments=["run", "--listen", "127.0.0.1:0", "--to", echo.address, "--admin", "127.0.0.1:0"])
    assert proxy.metric("ringmain_config_hash") == 0


def test_clients_make_no_series(own, ringmain):
    """However many come, from wherever, and however they end."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listener={"per_source": {"max_connections": 50}}))
    ping(own(connect(proxy.address)))

    def series():
        body = proxy.get("/metrics")[1]
        return {(name, labels) for name, samples in parse_metrics(body).items() for labels in samples}

    before = series()
    for i in range(200):
        client = connect(proxy.address, source=f"127.0.0.{i + 2}")
        client.sendall(b"x" * i)
        client.close()
    proxy.wait_active(1)
    assert series() == before
