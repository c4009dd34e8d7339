"""From runs to medians, ratios and verdicts. Pure functions of what compare keeps in results.json."""
import statistics

from comparing.scenarios import BARS, METRICS

US = "ringmain"
BEST = "haproxy-best"  # whichever HAProxy setting has the better median in a scenario
LOSS = 1.02            # a ratio of costs beyond this is called a loss; less is within what runs differ by


def values_of(runs, peer, metric):
    """{round: value} of the runs that worked."""
    return {run["round"]: run["values"][metric] for run in runs
            if run["peer"] == peer and metric in run.get("values", {})}


def add_kernel_memory(runs):
    """What a session costs beyond the proxy's own memory: the drop of MemAvailable, less that of the run without a
    proxy in the same round, less the proxy's own."""
    direct = values_of(runs, "direct", "available_bytes")
    for run in runs:
        values = run.get("values", {})
        if "user_bytes" in values and run["round"] in direct:
            values["kernel_bytes"] = values["available_bytes"] - direct[run["round"]] - values["user_bytes"]


def ratio(ours, theirs):
    """Of the rounds in which both worked."""
    each = [ours[number] / theirs[number] for number in ours if ours[number] > 0 and theirs.get(number, 0) > 0]
    if not each:
        return None
    return {"median": statistics.median(each), "least": min(each), "most": max(each), "rounds": len(each)}


def best_haproxy(medians, metric):
    """The name of the HAProxy setting with the better median of `metric`."""
    both = {peer: medians[peer][metric.name] for peer in ("haproxy", "haproxy-splice")
            if metric.name in medians.get(peer, {})}
    if not both:
        return None
    return (min if metric.lower_is_better else max)(both, key=both.get)


def summarise(kind, runs, peers):
    """{"medians": {peer: {metric: value}}, "ratios": {peer: {metric: ratio}}, "errors": {peer: count},
    "failed": {peer: [why]}} of one scenario."""
    if kind == "idle":
        add_kernel_memory(runs)
    medians, ratios, errors, failed = {}, {}, {}, {}
    for peer in peers:
        medians[peer] = {m.name: statistics.median(v.values()) for m in METRICS[kind]
                         if (v := values_of(runs, peer, m.name))}
        if count := sum(run.get("errors", 0) for run in runs if run["peer"] == peer):
            errors[peer] = count
        if why := [run["failed"] for run in runs if run["peer"] == peer and "failed" in run]:
            failed[peer] = why
    compared = [metric for metric in METRICS[kind] if metric.compared]
    for peer in peers:
        if peer == US:
            continue
        each = {m.name: ratio(values_of(runs, US, m.name), values_of(runs, peer, m.name)) for m in compared}
        ratios[peer] = {name: value for name, value in each.items() if value}
    for metric in compared:
        if (best := best_haproxy(medians, metric)) and metric.name in ratios.get(best, {}):
            ratios.setdefault(BEST, {})[metric.name] = ratios[best][metric.name]
    return {"medians": medians, "ratios": ratios, "errors": errors, "failed": failed}


def bars(scenarios):
    """The project's own marks: [{scenario, metric, peer, bar, aim, ratio, verdict}] of what was measured."""
    rows = []
    for name, metric, peer, bar, aim in BARS:
        if name not in scenarios:
            continue
        found = scenarios[name]["ratios"].get(peer, {}).get(metric)
        if found is None:
            continue
        more_is_better = not next(m for m in METRICS[scenarios[name]["kind"]] if m.name == metric).lower_is_better
        sign = -1 if more_is_better else 1
        value = sign * found["median"]
        verdict = "aim met" if value <= sign * aim else "bar met" if value <= sign * bar else "missed"
        rows.append({"scenario": name, "metric": metric, "peer": peer, "bar": bar, "aim": aim,
                     "more_is_better": more_is_better, "ratio": found, "verdict": verdict})
    return rows


def losses(scenarios):
    """Where ringmain is worse than a proxy: [(scenario, metric, peer, ratio)], the worst first. A ratio is taken so
    that more than 1 is worse."""
    rows = []
    for name, scenario in scenarios.items():
        for metric in METRICS[scenario["kind"]]:
            for peer, ratios in scenario["ratios"].items():
                if metric.name not in ratios or peer in ("direct", BEST):
                    continue
                value = ratios[metric.name]["median"]
                worse = value if metric.lower_is_better else 1 / value if value > 0 else float("inf")
                if worse > LOSS:
                    rows.append((name, metric, peer, worse))
    return sorted(rows, key=lambda row: -row[3])
