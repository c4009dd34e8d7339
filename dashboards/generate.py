#!/usr/bin/python3
"""Writes the Grafana dashboards beside it: ringmain-overview.json, ringmain-upstreams.json, ringmain-workers.json.

What differs between panels is here, what they have in common is in the functions above them. Run it after a change; a
test (tests/tidy/test_dashboard_files.py) fails where a file is not what it writes. In queries LISTENER stands for the
choice of instances and listeners, and so on: see CHOICES.
"""
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOICES = {
    "INSTANCE": 'instance=~"$instance"',
    "LISTENER": 'instance=~"$instance",listener=~"$listener"',
    "UPSTREAM": 'instance=~"$instance",upstream=~"$upstream"',
    "SERVER": 'instance=~"$instance",upstream=~"$upstream",server=~"$server"',
    "WORKER": 'instance=~"$instance",worker=~"$worker"',
    "SPAN": "$__rate_interval",
}


# ---- Parts of panels ----


def query(text):
    for word, choice in CHOICES.items():
        text = text.replace(word, choice)
    return text


def rate(metric, choice, by="", extra=""):
    """The sum of what a counter does in a second."""
    total = f"sum by ({by}) " if by else "sum"
    return f"{total}(rate({metric}{{{choice}{extra}}}[SPAN]))"


def share(over, under):
    return f"{over} / {under}"


def quantiles(histogram, choice, by="", legend=""):
    """p50 and p99 as targets: (expression, legend) each."""
    words = f"le, {by}" if by else "le"
    return [(f"histogram_quantile({q}, sum by ({words}) (rate({histogram}_bucket{{{choice}}}[SPAN])))", f"{legend}p{name}")
            for q, name in ((0.5, "50"), (0.99, "99"))]


def of_instance(metric):
    """A metric of processes, of those that are ringmain."""
    return f"{metric}{{INSTANCE}} and on (instance, job) ringmain_build_info{{INSTANCE}}"


def targets(expressions, **options):
    return [{"datasource": SOURCE, "refId": chr(ord("A") + i), "expr": query(expression), "legendFormat": legend, **options}
            for i, (expression, legend) in enumerate(expressions)]


def thresholds(*steps):
    """Colours from values on; the first from the beginning."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


def panel(kind, title, help_text, expressions, height, width, defaults, options, **target_options):
    made = {"type": kind, "title": title, "datasource": SOURCE, "gridPos": {"h": height, "w": width},
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
            "targets": targets(expressions, **target_options)}
    if help_text:
        made["description"] = help_text
    return made


def stat(title, help_text, expression, unit, *steps, width=4, height=4):
    return panel("stat", title, help_text, [(expression, "")], height, width,
                 {"unit": unit, "mappings": [], "thresholds": thresholds(*(steps or [("blue", None)]))},
                 {"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
                  "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
                  "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}})


def lines(title, help_text, unit, *expressions, width=8, stacked=False, height=8, most=None):
    defaults = {"unit": unit, "min": 0, "custom": {
        "drawStyle": "line", "lineWidth": 1, "fillOpacity": 15, "showPoints": "never", "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"}}}
    if most is not None:
        defaults["max"] = most
    return panel("timeseries", title, help_text, expressions, height, width, defaults,
                 {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                  "tooltip": {"mode": "multi", "sort": "desc"}})


def heatmap(title, help_text, histogram, choice, unit="s", width=8):
    return panel("heatmap", title, help_text, [(f"sum by (le) (increase({histogram}_bucket{{{choice}}}[SPAN]))", "{{le}}")], 8, width,
                 {"custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}, "scaleDistribution": {"type": "linear"}}},
                 {"calculate": False, "cellGap": 1, "showValue": "never", "legend": {"show": True},
                  "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange",
                            "reverse": False, "scale": "exponential"},
                  "yAxis": {"unit": unit, "axisPlacement": "left"}, "rowsFrame": {"layout": "auto"},
                  "tooltip": {"mode": "single", "yHistogram": False}, "filterValues": {"le": 1e-9},
                  "exemplars": {"color": "rgba(255,0,255,0.7)"}}, format="heatmap")


def states(title, help_text, expression, legend, names, width=12):
    """A bar for each series; `names` are (word, colour) of 0, 1, …"""
    return panel("state-timeline", title, help_text, [(expression, legend)], 8, width,
                 {"custom": {"fillOpacity": 70, "lineWidth": 0},
                  "mappings": [{"type": "value", "options": {str(value): {"text": word, "color": color, "index": value}
                                                             for value, (word, color) in enumerate(names)}}],
                  "thresholds": thresholds((names[0][1], None), *((color, value) for value, (_, color) in enumerate(names) if value))},
                 {"mergeValues": True, "showValue": "never", "rowHeight": 0.9,
                  "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
                  "tooltip": {"mode": "single", "sort": "none"}})


# ---- Dashboards ----


def variable(name, label, metric, choice=""):
    text = query(f"label_values({metric}{'{' + choice + '}' if choice else ''}, {name})")
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE,
            "query": {"query": text, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]}, "hide": 0, "regex": "", "skipUrlSync": False, "options": []}


VARIABLES = {
    "datasource": {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
                   "includeAll": False, "multi": False, "refresh": 1, "regex": "", "options": [], "skipUrlSync": False},
    "instance": variable("instance", "Instance", "ringmain_build_info"),
    "listener": variable("listener", "Listener", "ringmain_connections_total", "INSTANCE"),
    "upstream": variable("upstream", "Upstream", "ringmain_server_up", "INSTANCE"),
    "server": variable("server", "Server", "ringmain_server_up", "UPSTREAM"),
    "worker": variable("worker", "Worker", "ringmain_worker_sessions", "INSTANCE"),
}


def laid_out(rows):
    """Panels of each row from left to right, line by line; `rows` is [(title, panels)]."""
    panels, y = [], 0
    for title, of_row in rows:
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        y += 1
        x = height = 0
        for one in of_row:
            if x + one["gridPos"]["w"] > 24:
                x, y = 0, y + height
                height = 0
            one["gridPos"] |= {"x": x, "y": y}
            x += one["gridPos"]["w"]
            height = max(height, one["gridPos"]["h"])
            panels.append(one)
        y += height
    return [{"id": number, **one} for number, one in enumerate(panels, 1)]


def dashboard(name, help_text, variables, rows):
    link = {"type": "dashboards", "title": "ringmain", "tags": ["ringmain"], "asDropdown": False, "includeVars": True, "keepTime": True,
            "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}
    starts = {"name": "Starts", "datasource": SOURCE, "enable": True, "iconColor": "blue", "titleFormat": "start of {{instance}}",
              "target": {"refId": "Starts", "expr": query("changes(ringmain_start_time_seconds{INSTANCE}[1m]) > 0"), "interval": "10s"}}
    return {"uid": f"ringmain-{name}", "title": f"ringmain {name}", "description": help_text, "tags": ["ringmain"], "schemaVersion": 39,
            "version": 2, "editable": True, "graphTooltip": 1, "timezone": "browser", "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"}, "annotations": {"list": [starts]}, "links": [link],
            "templating": {"list": [VARIABLES[one] for one in ("datasource", "instance", *variables)]}, "panels": laid_out(rows)}


def overview():
    refused = "listener_limit|process_limit|no_files|access_denied|source_limit|accept_rate|source_rate|queue_full|queue_timeout|no_server"
    closed = "ringmain_connections_closed_total"
    return dashboard("overview", "Connections, limits, configuration and process of ringmain.", ["listener"], [
        ("Overview", [
            stat("Ready", "Instances whose /readyz says ready, of all.", "sum(ringmain_ready{INSTANCE}) / count(ringmain_ready{INSTANCE})",
                 "percentunit", ("red", None), ("orange", 0.5), ("green", 1)),
            stat("Open sessions", "", "sum(ringmain_connections_active{LISTENER})", "short"),
            stat("New connections", "A second.", rate("ringmain_connections_total", "LISTENER"), "cps"),
            stat("Throughput", "Both directions.", rate("ringmain_bytes_total", "LISTENER"), "Bps"),
            stat("Servers up", "Of all servers of all upstreams.", "sum(ringmain_server_up{INSTANCE}) / count(ringmain_server_up{INSTANCE})",
                 "percentunit", ("red", None), ("orange", 0.5), ("green", 1)),
            stat("Connection limit used", "Open sessions over limits.max_connections, the fullest instance.",
                 "max(sum by (instance) (ringmain_connections_active{INSTANCE}) / on (instance) ringmain_max_connections{INSTANCE})",
                 "percentunit", ("green", None), ("orange", 0.8), ("red", 0.95))]),
        ("Connections", [
            lines("Active connections", "Open sessions by listener.", "short",
                  ("sum by (listener) (ringmain_connections_active{LISTENER})", "{{listener}}"), stacked=True),
            lines("Connection rate", "Accepted connections a second, refused ones included.", "cps",
                  (rate("ringmain_connections_total", "LISTENER", "listener"), "{{listener}}")),
            lines("Closes by reason", "Ended sessions and refused connections a second. The words are those of the logs and of the status.",
                  "cps", (rate(closed, "LISTENER", "reason") + " > 0", "{{reason}}"), stacked=True),
            lines("Throughput by direction", "Payload bytes a second.", "Bps",
                  (rate("ringmain_bytes_total", "LISTENER", "direction"), "{{direction}}")),
            lines("Time to the first byte", "From accept to the first byte from the server; quantiles, estimated from buckets.", "s",
                  *quantiles("ringmain_first_byte_duration_seconds", "LISTENER", "listener", "{{listener}} ")),
            lines("Bytes of a session", "Of sessions that ended; quantiles, estimated from buckets.", "bytes",
                  *quantiles("ringmain_connection_bytes", "LISTENER", "direction", "{{direction}} ")),
            lines("Session duration", "Of sessions that ended; quantiles, estimated from buckets.", "s",
                  *quantiles("ringmain_connection_duration_seconds", "LISTENER")),
            heatmap("Session duration, distribution", "Sessions that ended, by duration.", "ringmain_connection_duration_seconds", "LISTENER"),
            heatmap("Time to the first byte, distribution", "", "ringmain_first_byte_duration_seconds", "LISTENER")]),
        ("Limits", [
            lines("Refused connections", "A second, by the limit or the want that they met.", "cps",
                  (rate(closed, "LISTENER", "listener, reason", f',reason=~"{refused}"') + " > 0", "{{listener}} {{reason}}")),
            lines("Limits of listeners", "Open sessions over the max_connections of the listener, where it has one.", "percentunit",
                  ("ringmain_connections_active{LISTENER} / ringmain_listener_max_connections{LISTENER}", "{{instance}} {{listener}}")),
            lines("Client addresses", "With open sessions, where per_source counts them.", "short",
                  ("ringmain_listener_sources{LISTENER}", "{{instance}} {{listener}}")),
            lines("PROXY protocol", "Clients a second whose header was missing, malformed or late.", "cps",
                  (rate(closed, "LISTENER", "listener, reason", ',reason=~"proxy_protocol.*"'), "{{listener}} {{reason}}")),
            lines("Timeouts", "Sessions a second that a timeout or their age has ended.", "cps",
                  (rate(closed, "LISTENER", "reason", ',reason=~".*_timeout|max_lifetime"') + " > 0", "{{reason}}")),
            lines("Bandwidth", "Payload bytes a second of each listener: what its bandwidth limits are compared with.", "Bps",
                  (rate("ringmain_bytes_total", "LISTENER", "listener, direction"), "{{listener}} {{direction}}")),
            lines("Held back", "Times a second that a session had to wait for its turn, by a bandwidth limit.", "cps",
                  (rate("ringmain_bandwidth_waits_total", "LISTENER", "listener, direction"), "{{listener}} {{direction}}"))]),
        ("Process", [
            lines("CPU", "Cores in use.", "short",
                  ("rate(process_cpu_seconds_total{INSTANCE}[SPAN]) and on (instance, job) ringmain_build_info{INSTANCE}", "{{instance}}")),
            lines("File descriptors", "Open, and the limit.", "short", (of_instance("process_open_fds"), "{{instance}} open"),
                  (of_instance("process_max_fds"), "{{instance}} limit")),
            lines("Memory", "Resident.", "bytes", (of_instance("process_resident_memory_bytes"), "{{instance}}"))]),
        ("Configuration", [
            stat("Last reload succeeded",
                 "Instances whose last reload succeeded, of all. One that failed goes on with the configuration it had; its log says why.",
                 "sum(ringmain_config_last_reload_successful{INSTANCE}) / count(ringmain_config_last_reload_successful{INSTANCE})",
                 "percentunit", ("red", None), ("green", 1), height=6, width=4),
            stat("Different configurations", "Files that instances have read: 1 if all have the same.",
                 "count(count_values(\"hash\", ringmain_config_hash{INSTANCE}))", "short", ("green", None), ("orange", 2), height=6, width=4),
            lines("Reloads", "Configurations read by SIGHUP, POST /api/v1/reload or the watch of the file.", "short",
                  ("increase(ringmain_config_reloads_total{INSTANCE}[SPAN])", "{{instance}} {{result}}"), height=6),
            lines("Age of the configuration",
                  "Time since the configuration was last read with success: instances that stand apart have missed a reload.", "s",
                  ("time() - ringmain_config_last_reload_success_timestamp_seconds{INSTANCE}", "{{instance}}"), height=6)])])


def upstreams():
    name = "{{upstream}} {{server}}"
    by = "upstream, server"
    return dashboard("upstreams", "Upstreams and servers of ringmain: health, latency, queues, retries, discovery.", ["upstream", "server"], [
        ("Servers", [
            states("State", "By health check; a server without one is up.", f"min by ({by}) (ringmain_server_up{{SERVER}})", name,
                   [("down", "red"), ("up", "green")]),
            states("Ejected", "Left out for a while because it failed in use.", f"max by ({by}) (ringmain_server_ejected{{SERVER}})", name,
                   [("in use", "green"), ("ejected", "orange")]),
            lines("Active connections", "Connecting or established.", "short",
                  (f"sum by ({by}) (ringmain_server_connections_active{{SERVER}})", name)),
            lines("Connects", "Successful connects a second.", "cps", (rate("ringmain_server_connects_total", "SERVER", by), name)),
            lines("Connect failures", "A second, by reason.", "cps",
                  (rate("ringmain_server_connect_failures_total", "SERVER", f"{by}, reason") + " > 0", name + " {{reason}}")),
            lines("Ejections", "In the last ten minutes.", "short", (f"sum by ({by}) (increase(ringmain_server_ejections_total{{SERVER}}[10m]))", name)),
            lines("Weight", "0: it is to get no new sessions.", "short", (f"max by ({by}) (ringmain_server_weight{{SERVER}})", name)),
            lines("Limits of servers", "Connections over the max_connections of the server, where it has one.", "percentunit",
                  ("ringmain_server_connections_active{SERVER} / ringmain_server_max_connections{SERVER}", "{{instance}} " + name))]),
        ("Latency", [
            lines("Connect time", "Of successful connects; quantiles, estimated from buckets.", "s",
                  *quantiles("ringmain_connect_duration_seconds", "UPSTREAM", "upstream", "{{upstream}} ")),
            heatmap("Connect time, distribution", "Successful connects, by the time they took.", "ringmain_connect_duration_seconds", "UPSTREAM"),
            lines("Round-trip time", "The kernel's, of sampled connections of live sessions.", "s",
                  (share(rate("ringmain_server_sampled_rtt_seconds_sum", "SERVER", by), rate("ringmain_server_sampled_rtt_seconds_count", "SERVER", by)), name)),
            lines("Retransmits", "Share of the segments that sampled connections sent.", "percentunit",
                  (share(rate("ringmain_server_sampled_retransmits_total", "SERVER", by), rate("ringmain_server_sampled_segments_total", "SERVER", by)), name),
                  width=12),
            lines("Health check time", "Failed ones included; quantiles, estimated from buckets.", "s",
                  *quantiles("ringmain_health_check_duration_seconds", "UPSTREAM", "upstream", "{{upstream}} "), width=12)]),
        ("Health, queues and retries", [
            lines("Health checks", "Results a second.", "cps", (rate("ringmain_health_checks_total", "SERVER", f"{by}, result"), name + " {{result}}")),
            states("Panic", "Fewer servers are up than panic_threshold: health is ignored.", "max by (upstream) (ringmain_upstream_panic{UPSTREAM})",
                   "{{upstream}}", [("no", "green"), ("panic", "red")], width=8),
            lines("Retries denied", "Connects to another server, a second, that retry_budget did not allow.", "cps",
                  (rate("ringmain_upstream_retries_denied_total", "UPSTREAM", "upstream"), "{{upstream}}")),
            lines("Waiting clients", "For room on a server, and how many may wait.", "short",
                  ("sum by (upstream) (ringmain_upstream_queued{UPSTREAM})", "{{upstream}}"),
                  ("sum by (upstream) (ringmain_upstream_max_queue{UPSTREAM})", "{{upstream}} at most")),
            lines("Wait for a server", "Of clients that had to; quantiles, estimated from buckets.", "s",
                  *quantiles("ringmain_queue_wait_duration_seconds", "UPSTREAM", "upstream", "{{upstream}} ")),
            lines("Clients without a server", "A second: the queue was full, the wait too long, or no server was up.", "cps",
                  (rate("ringmain_connections_closed_total", "INSTANCE", "listener, reason", ',reason=~"queue_.*|no_server|connect_.*"') + " > 0",
                   "{{listener}} {{reason}}"))]),
        ("Servers by name", [
            lines("Addresses", "Found last.", "short", ("max by (upstream, name) (ringmain_dns_addresses{UPSTREAM})", "{{upstream}} {{name}}")),
            lines("Lookups", "A second, by result.", "cps", (rate("ringmain_dns_lookups_total", "UPSTREAM", "name, result") + " > 0", "{{name}} {{result}}")),
            lines("Age of the answer", "Time since the name was last found.", "s",
                  ("time() - max by (upstream, name) (ringmain_dns_last_success_timestamp_seconds{UPSTREAM})", "{{upstream}} {{name}}"))])])


def workers():
    name = "{{instance}} worker {{worker}}"

    def each(over, under=None):
        over = f"rate({over}{{WORKER}}[SPAN])"
        return (share(over, f"rate({under}{{WORKER}}[SPAN])") if under else over, name)

    return dashboard("workers", "Workers of ringmain and their rings.", ["worker"], [
        ("Load", [
            lines("CPU", "Of each worker's thread; 1 is a whole core.", "percentunit", each("ringmain_worker_cpu_seconds_total")),
            lines("Sessions", "", "short", ("ringmain_worker_sessions{WORKER}", name)),
            lines("Messages", "Receives a second that brought payload.", "cps", each("ringmain_worker_messages_total")),
            lines("Loop turn, p99", "From a wake-up of the worker to its next wait: the longest that any session of it had to wait.", "s",
                  ("histogram_quantile(0.99, sum by (le, instance, worker) (rate(ringmain_worker_loop_turn_seconds_bucket{WORKER}[SPAN])))", name)),
            heatmap("Loop turn, distribution", "", "ringmain_worker_loop_turn_seconds", "WORKER"),
            lines("Clients handed over", "Fresh clients a second that a worker passed on to one with fewer sessions.", "cps",
                  each("ringmain_worker_handed_over_total"))]),
        ("Ring", [
            lines("System calls per message", "Of io_uring_enter, and direct ones of sessions.", "short",
                  each("ringmain_worker_system_calls_total", "ringmain_worker_messages_total")),
            lines("Completions per message", "", "short", each("ringmain_worker_completions_total", "ringmain_worker_messages_total")),
            lines("Completions per io_uring_enter", "How much one system call does.", "short",
                  each("ringmain_worker_completions_total", "ringmain_worker_enters_total")),
            lines("Submissions per io_uring_enter", "", "short", each("ringmain_worker_submissions_total", "ringmain_worker_enters_total")),
            lines("Completion queue overflows", "Loop turns a second that found the queue overflowed.", "cps", each("ringmain_worker_cq_overflows_total")),
            lines("Kernel features", "Instances on whose kernel each optional feature is in use.", "short",
                  ("sum by (feature) (ringmain_kernel_feature{INSTANCE})", "{{feature}}"))]),
        ("Buffers", [
            lines("Receive buffers held", "Share of the receive buffers that sessions with slow receivers hold.", "percentunit",
                  ("ringmain_worker_buffers_held{WORKER} / ringmain_worker_buffers{WORKER}", name)),
            lines("Buffer memory", "", "bytes", ("ringmain_worker_buffer_bytes{WORKER}", name)),
            lines("Receive starvation", "Receives a second that ended because no buffer was free.", "cps", each("ringmain_worker_receive_starvations_total")),
            lines("Accept pauses", "Times a second that accepting stopped for want of file descriptors or memory, and whether it is stopped now.",
                  "short", each("ringmain_worker_accept_pauses_total"), ("ringmain_worker_accept_paused{WORKER}", name + " paused"), width=24)]),
        ("Bulk", [
            lines("Directions by mode", "How established sessions carry their bytes now, two directions each: through buffers, or as bulk through kernel pipes.",
                  "short", ("sum by (mode) (ringmain_worker_relays{WORKER})", "{{mode}}")),
            lines("Share moved without a copy", "Of all bytes, those that went through kernel pipes.", "percentunit",
                  (share(rate("ringmain_worker_spliced_bytes_total", "INSTANCE", "instance"), rate("ringmain_bytes_total", "INSTANCE", "instance")), "{{instance}}")),
            lines("Kernel pipes", "That exist, and with bytes in them because a receiver is slow.", "short",
                  ("ringmain_worker_pipes{WORKER}", name), ("ringmain_worker_pipes_lent{WORKER}", name + " lent"))])])


DASHBOARDS = {"ringmain-overview.json": overview, "ringmain-upstreams.json": upstreams, "ringmain-workers.json": workers}


def text_of(make):
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file, make in DASHBOARDS.items():
        (HERE / file).write_text(text_of(make))
