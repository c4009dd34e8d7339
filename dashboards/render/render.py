#!/usr/bin/python3
"""Draws a dashboard as a picture, with what a Prometheus has to say: render.py BOARD.json PROMETHEUS-ADDRESS PICTURE.png

Not by Grafana itself but by the parts that it is made of (@grafana/ui of npm), in a headless Chromium (Debian package chromium). The
packages are installed beside this file. Heat maps and state timelines, of which there are no parts to be had, are drawn by panels.jsx.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS, STEP, SPAN = 120, 1, "10s"  # of the time that is shown
WIDTH, ROW = 1500, 38  # pixels of the picture, and of a row of the grid


def series(address, target):
    expression = target["expr"].replace("$__rate_interval", SPAN)
    expression = re.sub(r"\$(instance|listener|upstream|server|worker)\b", ".*", expression)
    now = time.time()
    query = urllib.parse.urlencode({"query": expression, "start": now - SECONDS, "end": now, "step": STEP})
    with urllib.request.urlopen(f"http://{address}/api/v1/query_range?{query}") as answer:
        found = json.loads(answer.read())["data"]["result"]
    name = target["legendFormat"]
    return [{"labels": one["metric"], "points": one["values"],
             "name": re.sub(r"\{\{(\w+)\}\}", lambda label, one=one: one["metric"].get(label[1], ""), name)} for one in found]


def main(board_file, address, picture):
    board = json.loads(Path(board_file).read_text())
    for panel in board["panels"]:
        panel["series"] = [one for target in panel.get("targets", []) for one in series(address, target)]
    if not (HERE / "node_modules").exists():
        subprocess.run(["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps"], cwd=HERE, check=True)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "panels.js"
        subprocess.run([HERE / "node_modules" / ".bin" / "esbuild", "panels.jsx", "--bundle", f"--outfile={bundle}", "--define:process.env.NODE_ENV=\"production\"",
                        "--define:global=window", "--loader:.svg=text", "--loader:.png=dataurl", "--loader:.ttf=dataurl", "--log-level=error"],
                       cwd=HERE, check=True)
        page = Path(folder) / "page.html"
        script = bundle.read_text().replace("</script", "<\\/script")
        data = json.dumps({"board": board, "width": WIDTH, "row": ROW}).replace("</", "<\\/")
        page.write_text(f"<!DOCTYPE html><meta charset=utf-8><body><script>window.shown = {data}</script><script>{script}</script>")
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * ROW + 70
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile",
                        f"--window-size={WIDTH},{height}", "--virtual-time-budget=8000", f"--screenshot={Path(picture).resolve()}", page.as_uri()],
                       check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
