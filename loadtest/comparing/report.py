"""results.md, the plots, and loadtest/RESULTS.md, all from what compare keeps in results.json."""
import datetime
import math
import os

from comparing import svg
from comparing.figures import LOSS, US, losses
from comparing.scenarios import GROUPS, METRICS

NOTES = "<!-- Notes below this line are kept when this page is written anew. -->"


def number(value, digits):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    shown = f"{value:.{digits}f}" if abs(value) < 10000 else f"{value:,.0f}".replace(",", " ")
    return shown.replace("-", "−")


def rounds(count):
    return "1 round" if count == 1 else f"{count} rounds"


BEST_TITLES = {"haproxy-best": "HAProxy with or without splice-auto, whichever is better",
               "fixed-best": "always buffers or always pipes, whichever is better"}


def title_of(results, peer):
    return BEST_TITLES.get(peer) or results["peers"][peer]["title"]


def group_scenarios(results, group):
    return {name: one for name, one in results["scenarios"].items() if one["group"] == group}


def primary(scenario):
    return METRICS[scenario["kind"]][0]


# ---- Tables ----

def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return "\n".join([row(head), row(["---"] + ["---:"] * (len(head) - 1)), *map(row, rows)])


def scenario_table(results, scenario):
    """One row for each peer: its figures, and in brackets how ringmain's compare with them."""
    metrics = [m for m in METRICS[scenario["kind"]]
               if any(m.name in values for values in scenario["medians"].values())]
    head = ["", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in metrics)]
    rows = []
    for peer, values in scenario["medians"].items():
        name = f"**{title_of(results, peer)}**" if peer == US else title_of(results, peer)
        cells = []
        for metric in metrics:
            cell = number(values.get(metric.name), metric.digits)
            found = scenario["ratios"].get(peer, {}).get(metric.name)
            cells.append(f"{cell} ({number(found['median'], 2)})" if found else cell)
        if peer in scenario["errors"]:
            name += f" – {scenario['errors'][peer]} errors"
        if peer in scenario["failed"]:
            name += f" – {len(scenario['failed'][peer])} runs failed"
        rows.append([name, *cells])
    return table(head, rows)


def summary_table(results):
    """The first figure of each scenario in which there are other proxies: ringmain's, and the ratio with every peer."""
    peers = [peer for peer in results["peers"] if peer != "direct" and not peer.startswith(US)]
    rows = []
    for scenario in results["scenarios"].values():
        if not any(peer in scenario["ratios"] for peer in peers):
            continue
        metric = primary(scenario)
        ours = scenario["medians"].get(US, {}).get(metric.name)
        cells = [f"{scenario_name(scenario)}: {metric.title}", f"{number(ours, metric.digits)} {metric.unit}"]
        for peer in peers:
            found = scenario["ratios"].get(peer, {}).get(metric.name)
            cells.append("" if found is None else number(found["median"], 2))
        rows.append(cells)
    return table(["", "ringmain", *(f"/ {title_of(results, peer)}" for peer in peers)], rows)


def scenario_name(scenario):
    """The title, with what sets it apart from one of the same title in another group."""
    extra = {"bulk-echo": "both ways", "two-workers": "two workers", "nobody": "as nobody"}.get(scenario["group"])
    return f"{scenario['title']}, {extra}" if extra else scenario["title"]


def spread(found, digits):
    """A figure's median, and what its rounds lay between."""
    if found is None:
        return "nothing"
    middle = number(found["median"], digits)
    if found["rounds"] < 2:
        return middle
    return f"{middle} ({number(found['least'], min(digits, 2))} to {number(found['most'], min(digits, 2))})"


def bars_table(results):
    rows = []
    for one in results["bars"]:
        scenario = results["scenarios"][one["scenario"]]
        metric = next(m for m in METRICS[scenario["kind"]] if m.name == one["metric"])
        sign = "≥ " if one["more_is_better"] else "≤ "
        what = f"{scenario_name(scenario)}: {metric.title}"
        if one["peer"]:
            what, unit, digits = f"{what}, against {title_of(results, one['peer'])}", "", 2
        else:
            unit, digits = f" {metric.unit}".rstrip(), metric.digits
        aim = "" if one["aim"] is None else f"{sign}{number(one['aim'], digits)}{unit}"
        measured = spread(one["measured"], max(digits, 1) + 1 if one["peer"] else digits) + unit
        if scenario["kind"] == "sessions":
            count = scenario["errors"].get(US, 0) + len(scenario["failed"].get(US, ()))
            measured += f", {count} errors"
        verdict = f"**{one['verdict']}**" if one["verdict"] in ("missed", "not held") else one["verdict"]
        rows.append([what, f"{sign}{number(one['bar'], digits)}{unit}", aim, measured, verdict])
    rows += [[title, "", "", why, "**skipped**"] for title, why in results.get("skipped", {}).items()]
    return table(["", "bar", "aim", "measured", ""], rows)


def losses_text(results):
    """Two tables: the figures that scenarios are about, and all the others."""
    parts = []
    found = losses(results["scenarios"])
    for heading, first in (("CPU, memory, and latency beside bulk", True),
                           ("Other latencies, rates and throughput", False)):
        rows = [[f"{scenario_name(scenario)}: {metric.title}", title_of(results, peer), f"{worse:.2f} ×"]
                for name, metric, peer, worse in found
                for scenario in [results["scenarios"][name]] if (metric == primary(scenario)) == first]
        what = table(["", "worse than", "by a factor of"], rows) if rows else "Nowhere."
        parts += [f"{heading}:\n", what, ""]
    return "\n".join(parts)


def failures_text(results):
    lines = []
    for scenario in results["scenarios"].values():
        for peer, count in scenario["errors"].items():
            said = next((run["said"] for run in scenario["runs"] if run["peer"] == peer and run.get("said")), "")
            lines.append(f"- {scenario_name(scenario)}, {title_of(results, peer)}: {count} errors ({one_line(said)})")
        for peer, why in scenario["failed"].items():
            lines.append(f"- {scenario_name(scenario)}, {title_of(results, peer)}: {len(why)} failed runs "
                         f"({one_line(why[0])})")
    return "\n".join(lines) + "\n" if lines else "None: every run ended, every byte was verified, with no error.\n"


def one_line(said):
    return " ".join(said.split())[:200].replace("|", "/")


# ---- Plots ----

def plot(results, group):
    """The SVG of a group, or None if nothing of it was measured."""
    panels = []
    for scenario in group_scenarios(results, group).values():
        metric = primary(scenario)
        rows = [(title_of(results, peer), value, f"{number(value, metric.digits)} {metric.unit}", peer == US)
                for peer, values in scenario["medians"].items()
                if (value := values.get(metric.name)) is not None]
        if len(rows) > 1:  # one alone compares with nothing
            panels.append((f"{scenario_name(scenario)}: {metric.title}", rows))
    if not panels:
        return None
    heading = GROUPS[group].partition(":")[0]
    return svg.bars(heading, "medians of all rounds, shorter is better", panels)


def write_plots(results, directory):
    """{group: file name} of the plots written; those of a former run do not stay."""
    written = {}
    for group in GROUPS:
        (directory / f"{group}.svg").unlink(missing_ok=True)
        if drawing := plot(results, group):
            written[group] = f"{group}.svg"
            (directory / written[group]).write_text(drawing)
    return written


# ---- Pages ----

def machine_text(results):
    machine, options = results["machine"], results["options"]
    virtual = ", virtual" if machine["hypervisor"] else ""
    lines = [
        f"- {machine['cpu']}{virtual}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"{machine['kernel']}; {machine['nofile']} file descriptors, TCP congestion control {machine['congestion_control']}",
        f"- taken {results['taken'][:16].replace('T', ' ')} UTC in {results['seconds'] / 60:.0f} min: "
        f"{rounds(options['pairs'])} of every peer in turn ({options['plain_pairs']} in scenarios without a bar), "
        f"windows of {options['seconds']} s; load average "
        f"{results['load_average']:.1f} at the beginning",
    ]
    runs = [run for scenario in results["scenarios"].values() for run in scenario["runs"]]
    stolen, softirq = (100 * max((run.get(name, 0) for run in runs), default=0) for name in ("stolen", "softirq_core"))
    lines.append(f"- in the worst run the hypervisor took {stolen:.1f}% of the time for others, and the kernel worked "
                 f"on the proxy's core in a thread of its own (ksoftirqd), which no proxy is charged, for {softirq:.1f}%")
    for peer in results["peers"].values():
        version = f" ({peer['version']})" if peer["version"] else ""
        lines.append(f"- **{peer['title']}**{version}: {peer['description']}")
    return "\n".join(lines) + "\n"


METHOD = """The proxy has one core, load and servers have another; with two workers nothing is pinned. All proxies of a
scenario run at once and are loaded one after the other, round by round, so that what disturbs the machine disturbs all
alike. Buffers have their default sizes: larger ones (HAProxy's tune.bufsize, nginx's proxy_buffer_size) make bulk
cheaper, and sessions larger. CPU is that of the proxy, all its threads and processes, user and system, in a window
inside the load; work is counted by the server, where it got through. In brackets: the median, over the rounds, of
ringmain's figure divided by the peer's in the same round; for costs and times less than 1 is better for ringmain, for
rates more than 1. Every byte that comes back is verified; of one-way bulk the number that arrived is. "other memory per
session" is the drop of MemAvailable per session, less that of the run without a proxy and less the proxy's own. Loop
turns are by ringmain's own histogram (ringmain_worker_loop_turn_seconds), over the time of the pings: the bound that 99
of 100 did not exceed.
"""


def page(results, plots, where):
    """The body that results.md and RESULTS.md share; `where` is the path from the page to the plots."""
    parts = ["## At a glance\n", summary_table(results), ""]
    if results["bars"] or results.get("skipped"):
        parts += ["### Against the project's own bars\n", bars_table(results), ""]
    parts += ["### Where ringmain loses\n",
              f"All figures, latency and rates too, in which its median is more than {100 * (LOSS - 1):.0f}% worse:\n",
              losses_text(results), "### Errors\n", failures_text(results), "## How it was measured\n", METHOD,
              machine_text(results)]
    for group, heading in GROUPS.items():
        scenarios = group_scenarios(results, group)
        if not scenarios:
            continue
        parts += [f"## {heading}\n"]
        if group in plots:
            parts += [f"![{heading.partition(':')[0]}]({where}{plots[group]})\n"]
        for scenario in scenarios.values():
            parts += [f"### {scenario_name(scenario)}\n", scenario_table(results, scenario), ""]
    return "\n".join(parts).rstrip() + "\n"


def write(results, directory, results_page=None):
    """results.md and plots into `directory`, and the page of the repository if it is wanted."""
    plots = write_plots(results, directory)
    (directory / "results.md").write_text("# Comparison\n\n" + page(results, plots, ""))
    if results_page is None:
        return
    kept = ""
    if results_page.exists() and NOTES in (old := results_page.read_text()):
        kept = old.split(NOTES, 1)[1].lstrip("\n")
    where = os.path.relpath(directory, results_page.parent)
    head = ("# Results\n\nThe last full run of `loadtest/compare`, as it wrote it. To repeat it on a quiet Debian 12 "
            "machine, as root:\n\n    meson setup build --buildtype=release && ninja -C build\n    "
            f"{results['options']['command']}\n\n"
            "What is missing of the peers is installed from Debian. All runs are in "
            f"[results.json]({where}/results.json).\n\n")
    results_page.write_text(head + page(results, plots, f"{where}/") + f"\n{NOTES}\n\n{kept}")


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
