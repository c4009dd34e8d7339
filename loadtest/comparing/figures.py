"""From runs to medians, ratios and verdicts. Pure functions of what compare keeps in results.json."""
import statistics

from comparing.scenarios import BARS, BEST, METRICS

US = "ringmain"
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


def add_growth(runs):
    """The latency beside bulk in relation to the least that the peer ever had without: what disturbs the machine while
    it is measured without makes the bulk look harmless."""
    for peer in {run["peer"] for run in runs}:
        unloaded = values_of(runs, peer, "unloaded_p99_us").values()
        for run in runs:
            if run["peer"] == peer and "values" in run:
                run["values"]["p99_growth"] = run["values"]["p99_us"] / min(unloaded)


def spread(each):
    """A figure of several rounds; None of none."""
    if not each:
        return None
    return {"median": statistics.median(each), "least": min(each), "most": max(each), "rounds": len(each)}


def ratio(ours, theirs):
    """Of the rounds in which both worked."""
    return spread([ours[number] / theirs[number] for number in ours if ours[number] > 0 and theirs.get(number, 0) > 0])


def best(medians, metric, settings):
    """The peer among `settings` with the better median of `metric`."""
    known = {peer: medians[peer][metric.name] for peer in settings if metric.name in medians.get(peer, {})}
    return (min if metric.lower_is_better else max)(known, key=known.get, default=None)


def summarise(kind, runs, peers):
    """{"medians": {peer: {metric: value}}, "ratios": {peer: {metric: ratio}}, "errors": {peer: count},
    "failed": {peer: [why]}} of one scenario."""
    if kind == "idle":
        add_kernel_memory(runs)
    if kind == "mixed":
        add_growth(runs)
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
        for name, settings in BEST.items():
            if (found := best(medians, metric, settings)) and metric.name in ratios.get(found, {}):
                ratios.setdefault(name, {})[metric.name] = ratios[found][metric.name]
    return {"medians": medians, "ratios": ratios, "errors": errors, "failed": failed}


def bars(scenarios):
    """The project's own marks: [{scenario, metric, peer, bar, aim, measured, verdict}] of what was measured."""
    rows = []
    for name, metric, peer, bar, aim in BARS:
        if name not in scenarios:
            continue
        scenario = scenarios[name]
        found = scenario["ratios"].get(peer, {}).get(metric) if peer else spread(
            list(values_of(scenario["runs"], US, metric).values()))
        if found is None and scenario["kind"] != "sessions":
            continue
        more_is_better = not next(m for m in METRICS[scenario["kind"]] if m.name == metric).lower_is_better
        rows.append({"scenario": name, "metric": metric, "peer": peer, "bar": bar, "aim": aim,
                     "more_is_better": more_is_better, "measured": found,
                     "verdict": verdict(scenario, found, -1 if more_is_better else 1, bar, aim)})
    return rows


def verdict(scenario, found, sign, bar, aim):
    if scenario["kind"] == "sessions":  # all of them in every round, and not one error
        whole = found is not None and found["least"] >= bar
        return "held" if whole and US not in scenario["errors"] and US not in scenario["failed"] else "not held"
    value = sign * found["median"]
    if aim is not None and value <= sign * aim:
        return "aim met"
    return "bar met" if value <= sign * bar else "missed"


def losses(scenarios):
    """Where ringmain is worse than a proxy: [(scenario, metric, peer, ratio)], the worst first. A ratio is taken so
    that more than 1 is worse."""
    rows = []
    for name, scenario in scenarios.items():
        for metric in METRICS[scenario["kind"]]:
            for peer, ratios in scenario["ratios"].items():
                if metric.name not in ratios or peer in ("direct", *BEST):
                    continue
                value = ratios[metric.name]["median"]
                worse = value if metric.lower_is_better else 1 / value if value > 0 else float("inf")
                if worse > LOSS:
                    rows.append((name, metric, peer, worse))
    return sorted(rows, key=lambda row: -row[3])
