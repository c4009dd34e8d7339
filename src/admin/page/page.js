"use strict";
// The live page: asks /api/v1/status and /api/v1/sessions now and then, and shows what has changed. What comes from the proxy (names and
// addresses may hold anything) only ever becomes the text of a node or a value; no markup is made of it. Rows are kept and changed in place, so that
// 500 servers cost little and what has the keyboard's focus keeps it.
(() => {
  const POLL_MS = 2000; // between two questions
  const WINDOW_MS = 300000; // that the charts show
  const HISTORY_MS = 3600000; // that a server's history shows, if the process is as old
  const FEW_SERVERS = 20; // of an upstream, unless all are wanted
  const PAGE_SESSIONS = 20;

  const $ = (id) => document.getElementById(id);

  // ---- Words ----

  const count = new Intl.NumberFormat("en");
  const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const GAP = "\u00a0";

  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) {
      value /= 1024;
      ++unit;
    }
    return (unit === 0 ? count.format(Math.round(value)) : value < 99.95 ? tenth.format(value) : count.format(Math.round(value))) + GAP + units[unit];
  }
  const perSecond = (value) => (Number.isInteger(value) || value >= 99.95 ? count.format(Math.round(value)) : tenth.format(value)) + "/s";
  const bytesPerSecond = (value) => bytes(value) + "/s";

  function duration(seconds) {
    if (seconds < 10) return tenth.format(seconds) + GAP + "s";
    const steps = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const first = steps.findIndex(([, length]) => seconds >= length);
    const [unit, length] = steps[first];
    const next = steps[first + 1];
    const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
    return Math.floor(seconds / length) + GAP + unit + (rest ? " " + rest + GAP + next[0] : "");
  }
  const clock = (date) => date.toLocaleTimeString("en-GB");
  const plural = (n, one, many) => count.format(n) + " " + (n === 1 ? one : many);

  // ---- Nodes ----

  // h("td", {class: "number"}, child, ...): a string becomes a text node.
  function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {}))
      if (value !== undefined) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  function svg(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  function text(node, value) {
    const next = String(value);
    if (node.shownText === next) return;
    node.shownText = next;
    node.textContent = next;
  }
  function attribute(node, name, value) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  function show(node, shown) {
    if (node.hidden === shown) node.hidden = !shown;
  }

  // ---- Asking ----

  const token = {
    get: () => sessionStorage.getItem("ringmain-token") || "",
    set: (value) => sessionStorage.setItem("ringmain-token", value),
  };

  class Refused extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  async function ask(path, body) {
    const headers = {};
    if (token.get()) headers.Authorization = "Bearer " + token.get();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers,
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    const answer = await response.text();
    let json = null;
    try {
      json = JSON.parse(answer);
    } catch {
      // Errors are text.
    }
    if (response.status === 401) show($("token-form"), true);
    if (!response.ok) throw new Refused(response.status, json && json.errors ? json.errors.join("\n") : answer.trim() || "HTTP status " + response.status);
    return json;
  }

  function say(words, bad) {
    text($("message").firstElementChild, words);
    $("message").classList.toggle("bad", Boolean(bad));
    show($("message"), true);
  }

  function confirmed(title, words, yes) {
    text($("confirm-title"), title);
    text($("confirm-text"), words);
    text($("confirm-yes"), yes);
    $("confirm").showModal();
    return new Promise((resolve) => {
      decide = resolve;
    });
  }
  let decide = null;
  function decided(answer) {
    const resolve = decide;
    decide = null;
    if ($("confirm").open) $("confirm").close();
    if (resolve) resolve(answer);
  }

  // Asks for a change, and shows what came of it.
  async function act(button, path, body, done) {
    button.disabled = true;
    try {
      say(done(await ask(path, body)));
    } catch (error) {
      say(error instanceof Refused ? error.message : "No answer: " + error.message, true);
    }
    button.disabled = false;
    poll();
  }
  const changesOf = (answer, otherwise) => [...(answer.changes || []), ...(answer.next_start || []).map((one) => "at the next start: " + one)].join("\n") || otherwise;

  // ---- Tables ----

  // Rows by key, kept and changed in place. A column is {label, class, make(cell, row), set(cell, item, row)}; a row remembers its item.
  class Table {
    constructor(table, caption, columns) {
      this.columns = columns;
      this.rows = new Map();
      table.setAttribute("aria-label", caption);
      table.append(h("thead", {}, h("tr", {}, ...columns.map((column) => h("th", { scope: "col", class: column.class }, column.label)))));
      this.body = table.appendChild(h("tbody"));
    }
    newRow() {
      const row = h("tr");
      this.columns.forEach((column, i) => {
        const cell = i === 0 ? h("th", { scope: "row" }) : h("td", { class: column.class, "data-label": column.label || undefined });
        if (column.make) column.make(cell, row);
        row.append(cell);
      });
      return row;
    }
    show(items, keyOf) {
      const left = new Map(this.rows);
      let place = this.body.firstElementChild;
      items.forEach((item) => {
        const key = keyOf(item);
        const row = this.rows.get(key) || this.newRow();
        this.rows.set(key, row);
        left.delete(key);
        row.item = item;
        this.columns.forEach((column, i) => column.set(row.children[i], item, row));
        if (row === place) place = place.nextElementSibling;
        else this.body.insertBefore(row, place);
      });
      for (const [key, row] of left) {
        row.remove();
        this.rows.delete(key);
      }
    }
  }

  const value = (label, read) => ({ label, class: "number", set: (cell, item) => text(cell, read(item)) });
  // A text, and a smaller one below.
  const twoLines = (label, first, second, className) => ({
    label,
    class: className,
    make: (cell) => cell.append(h("span"), h("small")),
    set: (cell, item) => {
      text(cell.firstChild, first(item));
      text(cell.lastChild, second(item));
      show(cell.lastChild, cell.lastChild.shownText !== "");
    },
  });
  function pill(node, [word, look]) {
    text(node, word);
    attribute(node, "class", "pill " + look);
  }
  const stateColumn = (label, read) => ({ label, make: (cell) => cell.append(h("span")), set: (cell, item) => pill(cell.firstChild, read(item)) });
  const life = (item) => (item.state === "active" ? ["active", "up"] : [item.state, "warn"]);
  const of = (active, most) => count.format(active) + (most === null ? "" : " of " + count.format(most));

  // ---- Rates: what totals have grown by since the last answer ----

  const totals = new Map();
  let round = 0; // of answers
  let elapsed = 0; // seconds between the last two; 0: there is only one
  function rate(key, total) {
    const before = totals.get(key);
    if (before && before.round === round) return before.rate;
    const grown = before && before.round === round - 1 && elapsed > 0 && total >= before.total ? (total - before.total) / elapsed : null;
    totals.set(key, { total, round, rate: grown });
    return grown;
  }
  const rateOr = (format, key, total) => {
    const grown = rate(key, total);
    return grown === null ? "–" : format(grown);
  };

  // ---- Charts ----

  const samples = []; // {at, toClient, toServer, opened, refused, active}; null where there is no rate

  // The next number of one digit, or 15, with zeros, in the unit of the format.
  function roundUp(most, base) {
    let unit = 1;
    while (base > 1 && most / unit >= 1000) unit *= base;
    const scaled = Math.max(most / unit, base > 1 ? 10 : 1);
    const power = 10 ** Math.floor(Math.log10(scaled));
    return unit * power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= scaled * 0.9999);
  }

  class Chart {
    constructor(title, format, base, series) {
      Object.assign(this, { title, format, base, series, picked: null });
      this.values = series.map(() => h("dd", {}, "–"));
      this.grid = [0, 0.5, 1].map((y) => svg("line", { class: "grid", x1: 0, x2: 1000, y1: y * 100, y2: y * 100 }));
      this.area = svg("path", { class: "area" });
      this.lines = series.map((_, i) => svg("path", { class: i ? "line second" : "line" }));
      this.cursor = svg("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
      this.plot = svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...this.grid, this.area, ...this.lines.slice().reverse(), this.cursor);
      this.most = h("span", { class: "most" });
      this.wait = h("span", { class: "wait" }, "Waiting for the second answer");
      this.when = h("span", {}, "now");
      const box = h("div", { class: "plot", tabindex: "0", role: "img" }, this.plot, this.most, this.wait);
      this.box = box;
      this.node = h("div", { class: "chart" }, h("h3", {}, title),
        h("dl", { class: "legend" }, ...series.map((one, i) => h("div", { class: i ? "second" : "first" }, h("dt", {}, one.label), this.values[i]))),
        box, h("div", { class: "times" }, h("span", {}, "5 min ago"), this.when));
      box.addEventListener("pointermove", (event) => {
        const { left, width } = box.getBoundingClientRect();
        const at = this.start() + ((event.clientX - left) / width) * WINDOW_MS;
        this.pick(samples.reduce((best, one) => (best === null || Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best), null));
      });
      box.addEventListener("pointerleave", () => this.pick(null));
      box.addEventListener("blur", () => this.pick(null));
      box.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (event.key === "Escape") this.pick(null);
        if (!step || samples.length === 0) return;
        event.preventDefault();
        const index = this.picked ? samples.indexOf(this.picked) + step : samples.length - 1;
        this.pick(samples[Math.min(Math.max(index, 0), samples.length - 1)]);
      });
    }
    start() {
      return samples.length === 0 ? 0 : samples[samples.length - 1].at - WINDOW_MS;
    }
    pick(sample) {
      this.picked = sample;
      this.draw();
    }
    draw() {
      const start = this.start();
      const known = samples.filter((one) => one[this.series[0].key] !== null);
      show(this.wait, known.length < 2);
      const top = roundUp(Math.max(0, ...known.flatMap((one) => this.series.map((series) => one[series.key]))), this.base);
      const x = (one) => (((one.at - start) / WINDOW_MS) * 1000).toFixed(1);
      this.series.forEach((series, i) => {
        let path = "";
        let pen = "M";
        let area = "";
        let from = null;
        let last = null;
        const close = () => (from === null ? "" : `L${last} 100L${from} 100Z`);
        for (const one of samples) {
          if (one[series.key] === null) {
            area += close();
            from = null;
            pen = "M";
            continue;
          }
          last = x(one);
          const point = `${pen}${last} ${(100 - (one[series.key] / top) * 100).toFixed(2)}`;
          if (from === null) from = last;
          path += point;
          area += point;
          pen = "L";
        }
        attribute(this.lines[i], "d", path);
        if (i === 0) attribute(this.area, "d", area + close());
      });
      const shown = this.picked && samples.includes(this.picked) ? this.picked : samples[samples.length - 1];
      this.cursor.setAttribute("visibility", shown && shown === this.picked ? "visible" : "hidden");
      if (shown) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, x(shown));
      this.series.forEach((series, i) => text(this.values[i], shown && shown[series.key] !== null ? this.format(shown[series.key]) : "–"));
      text(this.when, shown && shown === this.picked ? "at " + clock(shown.time) : "now");
      text(this.most, known.length < 2 ? "" : this.format(top).replace(".0" + GAP, GAP));
      attribute(this.box, "aria-label", `${this.title}: ` + this.series.map((series, i) => `${series.label} ${this.values[i].textContent}`).join(", ")
        + ". Left and right arrow show earlier values.");
    }
  }

  const charts = [
    new Chart("Throughput", bytesPerSecond, 1024, [{ key: "toClient", label: "to clients" }, { key: "toServer", label: "to servers" }]),
    new Chart("New connections", perSecond, 1, [{ key: "opened", label: "accepted" }, { key: "ended", label: "ended" }]),
    new Chart("Open connections", (n) => count.format(Math.round(n)), 1, [{ key: "active", label: "open" }]),
  ];
  $("charts").append(...charts.map((chart) => chart.node));

  function sample(status) {
    const sum = (read) => status.listeners.reduce((total, listener) => total + read(listener), 0);
    const grown = (key, read) => rate("all " + key, sum(read));
    const now = performance.now();
    const last = samples[samples.length - 1];
    if (last && now - last.at > 3 * POLL_MS) samples.push({ at: last.at + 1, time: last.time, toClient: null, toServer: null, opened: null, ended: null, active: null });
    samples.push({
      at: now,
      time: new Date(),
      toClient: grown("to_client", (listener) => listener.bytes.to_client),
      toServer: grown("to_server", (listener) => listener.bytes.to_server),
      opened: grown("opened", (listener) => listener.connections_total),
      ended: grown("ended", (listener) => Object.values(listener.closed).reduce((a, b) => a + b, 0)),
      active: sum((listener) => listener.connections_active),
    });
    while (samples[0].at < now - WINDOW_MS) samples.shift();
    for (const [key, one] of totals) if (one.round < round - 1000) totals.delete(key);
    for (const chart of charts) chart.draw();
  }

  // ---- Listeners ----

  const endings = (closed) => Object.entries(closed).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1])
    .map(([reason, n]) => reason + GAP + count.format(n)).join(", ");
  const listenerTable = new Table($("listener-table"), "Listeners", [
    twoLines("Listener", (item) => item.name, (item) => item.addresses.join(", ")),
    stateColumn("State", life),
    { label: "Upstream", set: (cell, item) => text(cell, item.upstream) },
    value("Open", (item) => of(item.connections_active, item.max_connections)),
    value("New", (item) => rateOr(perSecond, "listener opened " + item.name, item.connections_total)),
    value("To clients", (item) => rateOr(bytesPerSecond, "listener to_client " + item.name, item.bytes.to_client)),
    value("To servers", (item) => rateOr(bytesPerSecond, "listener to_server " + item.name, item.bytes.to_server)),
    value("Accepted in all", (item) => count.format(item.connections_total)),
    { label: "Ended", class: "words wide", set: (cell, item) => text(cell, endings(item.closed) || "none yet") },
  ]);

  // ---- Upstreams and servers ----

  let status = null; // the last answer
  let serverFilter = null; // {upstream, server}: whose sessions are shown
  const cards = new Map(); // by upstream name

  function serverState(server) {
    if (server.state === "draining") return ["removed, draining", "warn"];
    if (server.configured_state === "disabled") return ["disabled", "off"];
    if (server.configured_state === "drain") return ["drain", "warn"];
    if (!server.up) return ["down", "down"];
    if (server.ejected) return ["ejected", "warn"];
    return server.health_checked ? ["up", "up"] : ["not checked", ""];
  }
  const inService = (server) => ["up", "not checked"].includes(serverState(server)[0]);
  const lastFlip = (server) => (server.flips.length ? Date.parse(server.flips[server.flips.length - 1].time) : null);
  const ago = (ms) => duration(Math.max(0, (Date.now() - ms) / 1000));
  const failures = (server) => Object.entries(server.connect_failures).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);

  // The last hour, or the time since the start, as a bar: what the server was from each of its flips on. Before the first that is known it was the other.
  const shownMs = () => Math.min(HISTORY_MS, Math.max(status.uptime_seconds * 1000, 60000));
  function history(bar, server) {
    const now = Date.now();
    const shown = shownMs();
    const begin = now - shown;
    const known = Math.max(begin, Math.min(Date.parse(status.start_time), ...server.flips.map((flip) => Date.parse(flip.time))));
    const parts = [{ from: known, up: server.flips.length ? !server.flips[0].up : server.up }];
    for (const flip of server.flips) {
      const from = Date.parse(flip.time);
      if (from <= known) parts[0].up = flip.up;
      else parts.push({ from, up: flip.up });
    }
    const shape = parts.map((part, i) => {
      const to = i + 1 < parts.length ? parts[i + 1].from : now;
      return [((part.from - begin) / shown) * 1000, Math.max(((to - part.from) / shown) * 1000, part.up ? 0 : 8), part.up ? "up" : "down"];
    });
    const drawn = JSON.stringify(shape.map(([x, width, look]) => [Math.round(x), Math.round(width), look]));
    if (bar.drawn === drawn) return;
    bar.drawn = drawn;
    bar.replaceChildren(...shape.map(([x, width, look]) => svg("rect", { class: look, x: Math.min(x, 1000 - width), width, y: look === "up" ? 30 : 0, height: look === "up" ? 70 : 100 })));
    const flips = server.flips.filter((flip) => Date.parse(flip.time) >= begin).length;
    bar.setAttribute("aria-label", `${server.up ? "up" : "down"}, ${plural(flips, "change", "changes")} in the last ${duration(shown / 1000)}`);
  }

  const serverColumns = (upstream) => [
    {
      label: "Server",
      make: (cell) => cell.append(h("span"), h("small")),
      set: (cell, server) => {
        text(cell.firstChild, server.address);
        text(cell.lastChild, [server.backup ? "backup" : "", server.weight !== 1 ? "weight " + server.weight : ""].filter(Boolean).join(", "));
        show(cell.lastChild, cell.lastChild.shownText !== "");
      },
    },
    {
      label: "State",
      make: (cell) => cell.append(h("span"), h("small")),
      set: (cell, server) => {
        pill(cell.firstChild, serverState(server));
        text(cell.lastChild, server.health_checked && lastFlip(server) !== null ? "for " + ago(lastFlip(server)) : "");
      },
    },
    {
      label: "Health",
      make: (cell) => cell.append(svg("svg", { class: "history", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img" }), h("small")),
      set: (cell, server) => {
        const [bar, why] = cell.children;
        bar.classList.toggle("none", !server.health_checked);
        attribute(bar, "visibility", server.health_checked ? "visible" : "hidden");
        if (server.health_checked) history(bar, server);
        text(why, server.last_check_failure === null ? "" : (server.up ? "last failure: " : "") + server.last_check_failure);
        show(why, why.shownText !== "");
        cell.classList.toggle("blank", !server.health_checked);
      },
    },
    value("Open", (server) => of(server.connections_active, server.max_connections)),
    value("Connects", (server) => rateOr(perSecond, `connects ${upstream} ${server.address}`, server.connects_total)),
    twoLines("Failed connects", (server) => count.format(failures(server).reduce((sum, [, n]) => sum + n, 0)),
      (server) => failures(server).slice(0, 2).map(([why, n]) => why + GAP + count.format(n)).join(", "), "number"),
    {
      label: "",
      class: "act",
      make: (cell, row) => {
        const sessions = h("button", { type: "button", class: "plain small" }, "Sessions");
        sessions.addEventListener("click", () => {
          serverFilter = { upstream, server: row.item.address };
          firstPage();
          $("sessions").scrollIntoView();
        });
        const change = h("button", { type: "button", class: "small" });
        change.addEventListener("click", () => changeServer(change, upstream, row.item));
        cell.append(sessions, " ", change);
      },
      set: (cell, server) => {
        const change = cell.lastChild;
        const enabled = server.configured_state === "enabled";
        text(change, enabled ? "Drain" : "Enable");
        attribute(change, "aria-label", (enabled ? "Drain " : "Enable ") + server.address);
        attribute(cell.firstChild, "aria-label", "Sessions of " + server.address);
        show(change, server.state !== "draining");
      },
    },
  ];

  async function changeServer(button, upstream, server) {
    const state = server.configured_state === "enabled" ? "drain" : "enabled";
    if (state === "drain" && !(await confirmed("Drain " + server.address + "?", `It gets no new sessions of ${upstream} and keeps the ${count.format(server.connections_active)} it has.`, "Drain"))) return;
    act(button, "/api/v1/servers", { upstream, server: server.address, state }, (answer) => changesOf(answer, "nothing was to change"));
  }

  function newCard(name) {
    const card = { node: h("div", { class: "card" }), all: false };
    const title = h("h3", {}, name);
    card.facts = h("span", { class: "note" });
    card.names = h("span", { class: "note" });
    const table = h("table");
    card.empty = h("p", { class: "empty" });
    card.more = h("button", { type: "button", class: "more" });
    card.more.addEventListener("click", () => {
      card.all = !card.all;
      showUpstreams();
    });
    card.node.append(h("div", { class: "upstream-head" }, title, card.facts, card.names), table, card.empty, card.more);
    table.className = "servers";
    card.table = new Table(table, "Servers of " + name, serverColumns(name));
    card.when = table.querySelector("thead th:nth-child(3)");
    card.tableNode = table;
    return card;
  }

  function showUpstreams() {
    const wanted = $("server-search").value.trim().toLowerCase();
    const problems = $("problems").checked;
    let serving = 0;
    let all = 0;
    const left = new Set(cards.keys());
    let fitting = 0;
    for (const upstream of status.upstreams) {
      left.delete(upstream.name);
      if (!cards.has(upstream.name)) cards.set(upstream.name, newCard(upstream.name));
      const card = cards.get(upstream.name);
      if (card.node.parentNode === null) $("upstream-cards").append(card.node);
      const good = upstream.servers.filter(inService).length;
      serving += good;
      all += upstream.servers.length;
      const named = upstream.name.toLowerCase().includes(wanted);
      const fits = upstream.servers.filter((server) => (named || server.address.toLowerCase().includes(wanted)) && !(problems && inService(server)));
      const ordered = [...fits.filter((server) => !inService(server)), ...fits.filter(inService)];
      const shown = card.all ? ordered : ordered.slice(0, FEW_SERVERS);
      const open = upstream.servers.reduce((sum, server) => sum + server.connections_active, 0);
      text(card.facts, [`${count.format(good)} of ${plural(upstream.servers.length, "server", "servers")} in service`, upstream.balance,
        upstream.health_check ? upstream.health_check + " checks" : "no health checks", plural(open, "open connection", "open connections"),
        upstream.queued ? plural(upstream.queued, "client waits", "clients wait") : "", upstream.panic ? "panic: health is ignored" : ""].filter(Boolean).join(" · "));
      text(card.names, upstream.names.map((name) => `${name.name}: ${name.state}, ${plural(name.addresses, "address", "addresses")}`
        + (name.last_error ? ` (${name.last_error})` : "")).join(" · "));
      show(card.names, upstream.names.length > 0);
      card.table.show(shown, (server) => server.address + "\n" + server.state);
      show(card.tableNode, shown.length > 0);
      text(card.when, "Health, last " + (shownMs() === HISTORY_MS ? "hour" : duration(shownMs() / 1000)));
      show(card.empty, shown.length === 0);
      text(card.empty, upstream.servers.length === 0 ? "This upstream has no servers now." : problems && wanted === "" ? "Every server is in service." : "No server fits.");
      show(card.more, fits.length > FEW_SERVERS);
      text(card.more, card.all ? `Show the first ${FEW_SERVERS} only` : `Show all ${count.format(fits.length)} servers`);
      const hidden = fits.length === 0 && (wanted !== "" || problems);
      show(card.node, !hidden);
      fitting += hidden ? 0 : 1;
    }
    for (const name of left) {
      cards.get(name).node.remove();
      cards.delete(name);
    }
    if (fitting === 0 && cards.size > 0) show(cards.values().next().value.node, true);
    text($("servers-up"), all === 0 ? "no servers" : `${count.format(serving)} of ${plural(all, "server", "servers")} in service`);
  }
  for (const [id, event] of [["server-search", "input"], ["problems", "change"]]) $(id).addEventListener(event, () => status && showUpstreams());

  // ---- Sessions ----

  let after = null; // where the page begins
  let next = null; // where the next one does
  let asked = 0; // what was asked for last wins

  const moved = (session, direction) => bytes(session[direction].received_bytes);
  const queued = (session) => session.to_client.queued_bytes + session.to_server.queued_bytes;
  const sessionTable = new Table($("session-table"), "Sessions", [
    twoLines("Client", (item) => item.client || "unknown", (item) => item.id),
    twoLines("Route", (item) => item.listener + " → " + item.upstream, (item) => item.server || "no server yet"),
    twoLines("State", (item) => item.state, (item) => (queued(item) ? bytes(queued(item)) + " held" : "")),
    value("Age", (item) => duration(item.age_seconds)),
    value("Idle", (item) => duration(item.idle_seconds)),
    value("To client", (item) => moved(item, "to_client")),
    value("To server", (item) => moved(item, "to_server")),
    {
      label: "",
      class: "act",
      make: (cell, row) => {
        const close = h("button", { type: "button", class: "small" }, "Close");
        close.addEventListener("click", () => closeSession(close, row.item));
        cell.append(close);
      },
      set: (cell, item) => {
        attribute(cell.firstChild, "aria-label", "Close session " + item.id);
        show(cell.firstChild, item.state !== "closing");
      },
    },
  ]);

  async function closeSession(button, session) {
    const words = `${session.client || "Its client"} is cut off from ${session.server || session.upstream}. It may connect again at once.`;
    if (!(await confirmed("Close session " + session.id + "?", words, "Close it"))) return;
    act(button, "/api/v1/sessions/close", { id: session.id }, () => "session " + session.id + " is closed");
  }

  // What was typed, as the API takes it: the beginning of an IPv4 address stands for its network.
  function clientQuery(typed) {
    const begun = typed.match(/^(\d{1,3}(?:\.\d{1,3}){0,2})\.?$/);
    if (!begun) return typed;
    const parts = begun[1].split(".");
    return [...parts, ...Array(4 - parts.length).fill("0")].join(".") + "/" + 8 * parts.length;
  }

  async function showSessions() {
    const mine = ++asked;
    const query = new URLSearchParams({ sort: $("sort").value, limit: PAGE_SESSIONS });
    for (const [name, wanted] of [["listener", $("by-listener").value], ["upstream", serverFilter ? serverFilter.upstream : $("by-upstream").value],
      ["server", serverFilter ? serverFilter.server : ""], ["client", clientQuery($("by-client").value.trim())], ["after", after || ""]])
      if (wanted !== "") query.set(name, wanted);
    const filtered = ["listener", "upstream", "server", "client"].some((name) => query.has(name));
    let answer;
    try {
      answer = await ask("/api/v1/sessions?" + query);
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 400) throw error;
      if (mine !== asked) return;
      text($("client-hint"), error.message);
      show($("client-hint"), true);
      return;
    }
    if (mine !== asked) return;
    const missing = answer.missing_workers.length;
    text($("client-hint"), missing ? `${plural(missing, "worker does", "workers do")} not answer; the sessions there are not listed` : "");
    show($("client-hint"), missing > 0);
    sessionTable.show(answer.sessions, (session) => session.id);
    show($("session-table"), answer.sessions.length > 0);
    show($("no-sessions"), answer.sessions.length === 0);
    text($("no-sessions"), answer.matched > 0 ? "No more sessions." : filtered ? "No session fits." : "There are no sessions now.");
    text($("session-count"), filtered ? `${count.format(answer.matched)} of ${count.format(answer.total)} fit` : `${count.format(answer.total)} open`);
    text($("server-only").querySelector("b"), serverFilter ? serverFilter.server + " of " + serverFilter.upstream : "");
    show($("server-only"), serverFilter !== null);
    next = answer.next;
    $("next-page").disabled = next === null;
    $("first-page").disabled = after === null;
    show($("first-page").parentNode, after !== null || next !== null);
  }

  function turnTo(place) {
    after = place;
    $("next-page").disabled = true; // where it leads is not known before the answer
    showSessions().catch(failed);
  }
  const firstPage = () => turnTo(null);
  $("first-page").addEventListener("click", firstPage);
  $("next-page").addEventListener("click", () => turnTo(next));
  for (const id of ["sort", "by-listener"]) $(id).addEventListener("change", firstPage);
  $("by-upstream").addEventListener("change", () => {
    serverFilter = null;
    firstPage();
  });
  $("server-only").querySelector("button").addEventListener("click", () => {
    serverFilter = null;
    firstPage();
  });
  let typing = 0;
  $("by-client").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(firstPage, 250);
  });

  // The choices of a select, without disturbing what is chosen.
  function choices(select, names) {
    const wanted = JSON.stringify(names);
    if (select.choices === wanted) return;
    select.choices = wanted;
    const chosen = select.value;
    select.replaceChildren(h("option", { value: "" }, "all"), ...names.map((name) => h("option", { value: name }, name)));
    select.value = names.includes(chosen) ? chosen : "";
  }

  // ---- Workers ----

  const workerTable = new Table($("worker-table"), "Workers", [
    { label: "Worker", set: (cell, item) => text(cell, item.worker) },
    stateColumn("State", (item) => (item.accept_paused ? ["accepting paused", "warn"] : life(item))),
    value("Sessions", (item) => count.format(item.sessions)),
    value("Completions", (item) => rateOr(perSecond, "completions " + item.worker, item.completions_total)),
    value("System calls", (item) => rateOr(perSecond, "enters " + item.worker, item.enters_total)),
    twoLines("Buffers", (item) => bytes(item.buffer_bytes), (item) => (item.buffers_held ? of(item.buffers_held, item.buffers) + " held" : ""), "number"),
    twoLines("Pipes", (item) => count.format(item.pipes), (item) => (item.pipes_lent ? count.format(item.pipes_lent) + " with bytes in them" : ""), "number"),
    value("Spliced", (item) => count.format(item.relays.spliced)),
    value("Handed over", (item) => count.format(item.handed_over_total)),
    twoLines("Shortages", (item) => count.format(item.receive_starvations_total + item.cq_overflows_total + item.accept_pauses_total),
      (item) => [[item.receive_starvations_total, "buffers"], [item.cq_overflows_total, "completions"], [item.accept_pauses_total, "accepts"]]
        .filter(([n]) => n > 0).map(([n, what]) => what + GAP + count.format(n)).join(", "), "number"),
  ]);

  // ---- The whole ----

  const facts = new Map();
  function fact(name, words) {
    if (!facts.has(name)) {
      const shown = h("dd");
      facts.set(name, shown);
      $("facts").append(h("div", {}, h("dt", {}, name), shown));
    }
    text(facts.get(name), words);
    show(facts.get(name).parentNode, words !== "");
  }

  function showStatus() {
    const look = { ready: "up", draining: "warn" }[status.state] || "";
    pill($("state"), [status.state, look]);
    fact("version", status.version);
    fact("process", status.pid);
    fact("up", duration(status.uptime_seconds));
    fact("configuration", status.configuration.file === null ? "from the command line" : status.configuration.file
      + (status.configuration.last_reload_failed ? " (the last reload failed)" : ""));
    fact("read", status.configuration.file === null ? "" : ago(Date.parse(status.configuration.read)) + " ago");
    $("reload").disabled = status.configuration.file === null || status.state === "draining";
    $("drain").disabled = status.state === "draining";
    const open = status.listeners.reduce((sum, listener) => sum + listener.connections_active, 0);
    document.title = `${status.state}, ${count.format(open)} open – ringmain`;
    sample(status);
    listenerTable.show(status.listeners, (listener) => listener.name + "\n" + listener.state);
    showUpstreams();
    choices($("by-listener"), [...new Set(status.listeners.map((listener) => listener.name))]);
    choices($("by-upstream"), status.upstreams.map((upstream) => upstream.name));
    workerTable.show(status.workers, (worker) => worker.worker);
  }

  let paused = false;
  let timer = 0;
  let polling = false;
  let again = false; // asked for while one was under way
  let lastAnswer = 0;
  let answeredAt = null;

  function failed(error) {
    const why = error instanceof Refused ? error.message : "no answer";
    text($("offline"), (answeredAt ? "Nothing new since " + clock(answeredAt) + ": " : "") + why + ". Trying again.");
    show($("offline"), true);
    $("traffic").parentNode.classList.add("stale");
  }

  async function poll() {
    if (polling) {
      again = true;
      return;
    }
    polling = true;
    clearTimeout(timer);
    try {
      const answer = await ask("/api/v1/status?sessions=0");
      const now = performance.now();
      // Another process began to count anew; one that took over goes on, but for what happened between two questions.
      elapsed = lastAnswer === 0 ? 0 : (now - lastAnswer) / 1000;
      lastAnswer = now;
      answeredAt = new Date();
      ++round;
      status = answer;
      showStatus();
      await showSessions();
      show($("offline"), false);
      $("traffic").parentNode.classList.remove("stale");
      text($("updated"), `Updated ${clock(answeredAt)}, every ${POLL_MS / 1000} s while this page is seen`);
      document.body.dataset.rounds = round; // for those who wait for it
    } catch (error) {
      failed(error);
    }
    polling = false;
    if (again) {
      again = false;
      poll();
    } else if (!paused && !document.hidden) {
      timer = setTimeout(poll, POLL_MS);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) poll();
  });
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    text($("pause"), paused ? "Go on" : "Pause");
    if (paused) clearTimeout(timer);
    else poll();
  });
  $("reload").addEventListener("click", () => act($("reload"), "/api/v1/reload", {}, (answer) =>
    answer.result === "unchanged" ? "The file says what runs: nothing has changed." : changesOf(answer, "reloaded")));
  $("drain").addEventListener("click", async () => {
    const words = "ringmain stops accepting, waits for its sessions for up to drain.timeout, and exits. A service manager may start it again.";
    if (await confirmed("Drain and exit?", words, "Drain and exit")) act($("drain"), "/api/v1/drain", {}, () => "ringmain drains, and exits then");
  });
  $("message").querySelector("button").addEventListener("click", () => show($("message"), false));
  $("confirm-yes").addEventListener("click", () => decided(true));
  $("confirm-no").addEventListener("click", () => decided(false));
  $("confirm").addEventListener("cancel", () => decided(false)); // by the Escape key
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set($("token").value.trim());
    $("token").value = "";
    show($("token-form"), false);
    poll();
  });
  poll();
})();
