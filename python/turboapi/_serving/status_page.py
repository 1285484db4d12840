"""The page at `/-/status` of the metrics address: one file, which asks for `status.json` itself."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TurboAPI status</title>
<style>
:root {
  color-scheme: light dark;
  --back: #f5f6f8; --card: #fff; --line: #e3e6eb; --text: #1b2230; --soft: #667085;
  --good: #12805c; --warn: #b25e09; --bad: #c4320a; --bar: #dbe7ff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0f1319; --card: #181d26; --line: #2a313d; --text: #e6e9ef; --soft: #98a2b3;
    --good: #4ecb9b; --warn: #f0a94b; --bad: #ff8a65; --bar: #22345a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 16px 48px; }
header { display: flex; align-items: center; gap: 10px; flex-wrap: wrap; margin-bottom: 16px; }
h1 { font-size: 18px; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 13px; margin: 0; color: var(--soft); font-weight: 600; }
.pill { padding: 2px 10px; border-radius: 99px; border: 1px solid currentColor; font-weight: 600;
  font-size: 12px; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
#seen { margin-left: auto; color: var(--soft); font-size: 12px; }
.cards { display: grid; gap: 10px; grid-template-columns: repeat(5, 1fr); }
.card, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 10px 14px; }
.card b { display: block; font-size: 21px; font-weight: 650; font-variant-numeric: tabular-nums;
  letter-spacing: -.02em; }
.card span { color: var(--soft); font-size: 12px; }
section { margin-top: 14px; overflow: hidden; }
section > div:first-child { display: flex; justify-content: space-between; padding: 11px 14px;
  border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 14px; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; font-size: 12px; }
tr + tr td { border-top: 1px solid var(--line); }
th.l, td.l { text-align: left; }
td.route { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px;
  max-width: 420px; overflow: hidden; text-overflow: ellipsis;
  background: linear-gradient(var(--bar), var(--bar)) no-repeat 0 50% / var(--part, 0) 70%; }
td.empty { color: var(--soft); text-align: left; }
.method { color: var(--soft); font-size: 11px; font-weight: 600; margin-right: 8px; }
@media (max-width: 860px) {
  .cards { grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); }
}
@media (max-width: 560px) {
  main { padding: 14px 10px 32px; }
  .cards { grid-template-columns: 1fr 1fr; gap: 8px; }
  .card b { font-size: 18px; }
  th, td { padding: 6px 10px; }
  .wide { display: none; }
  td.route { max-width: 176px; }
}
</style>
<main>
  <header>
    <h1>TurboAPI</h1><span id="ready" class="pill">&hellip;</span><span id="seen"></span>
  </header>
  <div class="cards" id="cards"></div>
  <section>
    <div><h2>Workers</h2><h2 id="nworkers"></h2></div>
    <div class="scroll"><table id="workers"></table></div>
  </section>
  <section>
    <div><h2>Routes</h2><h2 id="nroutes"></h2></div>
    <div class="scroll"><table id="routes"></table></div>
  </section>
  <section>
    <div><h2>In flight</h2><h2 id="nflight"></h2></div>
    <div class="scroll"><table id="flight"></table></div>
  </section>
</main>
<script>
"use strict";
const EVERY = 2000;
const byId = (id) => document.getElementById(id);
let before = null;

function cell(text, kind, tag = "td") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}
function table(id, heads, rows, empty) {
  const made = document.createElement("tbody");
  const head = document.createElement("tr");
  for (const [text, kind] of heads) head.append(cell(text, kind, "th"));
  made.append(head);
  for (const cells of rows) {
    const row = document.createElement("tr");
    row.append(...cells);
    made.append(row);
  }
  if (!rows.length) {
    const row = document.createElement("tr");
    const none = cell(empty, "empty");
    none.colSpan = heads.length;
    row.append(none);
    made.append(row);
  }
  byId(id).replaceChildren(made);
}
const count = (n) => n >= 1e6 ? (n / 1e6).toFixed(1) + " M" : n >= 1e4
  ? (n / 1e3).toFixed(1) + " k" : Math.round(n).toString();
const bytes = (n) => {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000) return (n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)) + " " + unit;
    n /= 1000;
  }
  return n.toFixed(1) + " TB";
};
const time = (s) => s === null ? "\\u2013" : s < 0.001 ? Math.round(s * 1e6) + " \\u00b5s"
  : s < 1 ? (s * 1e3).toFixed(s < 0.01 ? 1 : 0) + " ms" : s.toFixed(s < 10 ? 1 : 0) + " s";
const span = (s) => s < 60 ? Math.floor(s) + " s" : s < 3600 ? Math.floor(s / 60) + " min"
  : s < 172800 ? (s / 3600).toFixed(1) + " h" : Math.floor(s / 86400) + " d";
const routeCell = (method, route, part) => {
  const made = cell("", "l route");
  const name = document.createElement("span");
  name.className = "method";
  name.textContent = method || "";
  made.append(name, route || (route === "" ? "(no route)" : "\\u2013"));
  made.title = (method || "") + " " + (route || "");
  made.style.setProperty("--part", part + "%");
  return made;
};

function rates(now) {
  const found = {total: null, routes: {}, cpu: {}};
  if (!before || now.now <= before.now) return found;
  const passed = now.now - before.now;
  found.total = Math.max(0, now.totals.ended - before.totals.ended) / passed;
  for (const one of before.routes) found.routes[one.method + " " + one.route] = -one.count;
  for (const one of now.routes) {
    const key = one.method + " " + one.route;
    found.routes[key] = (one.count + (found.routes[key] || 0)) / passed;
  }
  const then = {};
  for (const one of before.workers) then[one.pid] = one.cpu;
  for (const one of now.workers)
    if (one.pid in then) found.cpu[one.pid] = 100 * (one.cpu - then[one.pid]) / passed;
  return found;
}

function show(now) {
  const rate = rates(now);
  const ready = byId("ready");
  ready.textContent = now.ready ? "ready" : "not ready";
  ready.className = "pill " + (now.ready ? "good" : "bad");
  byId("seen").textContent = new Date(now.now * 1000).toLocaleTimeString();
  const all = now.routes.reduce((sum, one) => sum + one.count, 0);
  const errors = now.routes.reduce((sum, one) => sum + one.errors, 0);
  const open = Object.values(now.connections).reduce((a, b) => a + b, 0);
  const lag = Math.max(0, ...now.workers.map((one) => one.lag));
  const cards = [
    [rate.total === null ? "\\u2013" : count(rate.total), "requests a second"],
    [count(all), "requests"],
    [count(errors), "server errors", errors ? "bad" : ""],
    [count(now.in_flight), "in flight"],
    [count(open), "connections"],
    [count(Math.max(0, now.totals.websockets)), "WebSockets"],
    [time(lag), "loop lag", lag > 0.1 ? "bad" : lag > 0.02 ? "warn" : ""],
    [count(now.totals.pool_queue), "waiting for a thread", now.totals.pool_queue ? "warn" : ""],
    [count(now.totals.restarts), "worker restarts", now.totals.restarts ? "warn" : ""],
    [bytes(now.totals.bytes_out), "sent"],
  ];
  if (now.totals.log_lines_dropped)
    cards.push([count(now.totals.log_lines_dropped), "log lines dropped", "bad"]);
  byId("cards").replaceChildren(...cards.map(([value, words, kind]) => {
    const card = document.createElement("div");
    card.className = "card";
    card.append(cell(value, kind, "b"), cell(words, "", "span"));
    return card;
  }));
  byId("nworkers").textContent = new Set(now.workers.map((one) => one.pid)).size || "";
  table("workers",
    [["Process", "l"], ["State", "l"], ["CPU"], ["Memory"], ["Up"], ["Requests", "wide"],
     ["In flight", "wide"], ["Connections", "wide"], ["Lag", "wide"]],
    now.workers.map((one) => [
      cell(one.thread ? one.pid + "." + one.thread : one.pid, "l"),
      cell(one.state, "l " + (one.state === "ready" ? "good" : "warn")),
      cell(one.pid in rate.cpu ? Math.round(rate.cpu[one.pid]) + " %" : "\\u2013"),
      cell(bytes(one.memory)), cell(span(one.uptime)), cell(count(one.requests), "wide"),
      cell(count(one.in_flight), "wide"), cell(count(one.connections), "wide"),
      cell(time(one.lag), "wide"),
    ]), "No worker serves.");
  byId("nroutes").textContent = now.routes.length || "";
  table("routes",
    [["Route", "l"], ["Requests"], ["/s"], ["p50"], ["p99"], ["4xx", "wide"], ["5xx"]],
    now.routes.slice(0, 200).map((one) => {
      const perSecond = rate.routes[one.method + " " + one.route];
      return [
        routeCell(one.method, one.route, all ? 100 * one.count / all : 0),
        cell(count(one.count)),
        cell(perSecond === undefined ? "\\u2013" : count(Math.max(0, perSecond))),
        cell(time(one.p50)), cell(time(one.p99)), cell(count(one.refused), "wide"),
        cell(count(one.errors), one.errors ? "bad" : ""),
      ];
    }), "No request yet.");
  byId("nflight").textContent = now.in_flight || "";
  table("flight", [["Request", "l"], ["Age"], ["Process"]],
    now.requests.map((one) => [
      routeCell(one.method, one.route, 0),
      cell(time(one.age), one.age > 10 ? "bad" : one.age > 1 ? "warn" : ""),
      cell(one.pid),
    ]), "None.");
  before = now;
}

async function turn() {
  try {
    const answer = await fetch("/-/status.json", {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.json());
  } catch {
    byId("ready").textContent = "no answer";
    byId("ready").className = "pill bad";
  }
  setTimeout(turn, EVERY);
}
turn();
</script>
</html>
"""
