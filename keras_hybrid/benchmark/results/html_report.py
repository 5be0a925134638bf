"""`report.html`: every measurement of a folder in one file that needs nothing else.

All phones over time, filters by device, delegate and model, a table, the curves of sustained runs,
and latency against a metric with its Pareto front. The rows are in the page as JSON; a script of
the page draws them. No network, no library.
"""

import json
from collections.abc import Iterable

from keras_hybrid.benchmark.plan import marked
from keras_hybrid.benchmark.results.tables import clock_ghz, describe_conditions, device_label
from keras_hybrid.benchmark.rows import Row


def report_page(rows: Iterable[Row], metrics: dict[str, dict] | None = None) -> str:
    """The page.

    Args:
        rows: all of them; those without a figure are listed with their reason.
        metrics: see `plots.read_metrics`.
    """
    rows = marked(list(rows))
    conditions = describe_conditions(rows)
    records = [
        {
            "device": device_label(row),
            "program": row.program,
            "conditions": conditions[row.measurement],
            "model": row.model,
            "threads": row.num_threads,
            "delegate": row.delegate,
            "kind": row.kind,
            "status": row.status,
            "ms": row.central_ms,
            "started": row.started,
            "session": row.session,
            "repetition": row.repetition,
            "delegated": row.delegated_nodes,
            "total": row.total_nodes,
            "battery_c": row.state_after.get("battery_c"),
            "skin_c": row.state_after.get("skin_c"),
            "hottest_c": row.during.get("hottest_c", [None])[-1],
            "clock_ghz": clock_ghz(row),
            "energy_mj": row.energy_mj,
            "variant": row.variant,
            "agreement": row.agreement or None,
            "init_ms": row.init_ms,
            "first_ms": row.first_ms,
            "page_cache": row.caches.get("page_cache"),
            "notes": list(row.notes),
        }
        for row in rows
    ]
    data = {"rows": records, "metrics": metrics or {}}
    # `<` would let a name end the script.
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return _PAGE.replace("@DATA@", text)


_PAGE = r"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latency</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
label{margin-right:1.2rem}select{font:inherit;max-width:22rem}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;background:#fafafa;border:1px solid #e4e4e4}
svg text{font-size:12px;fill:#444}.legend span{margin-right:1rem;white-space:nowrap}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
.bad{color:#a33}
</style></head><body>
<h1>Latency</h1>
<p id="filters"></p>
<div id="content"></div>
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const {rows, metrics} = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#0072B2","#D55E00","#009E73","#CC79A7","#E69F00","#56B4E9","#000000"];
const chosen = {};
function add(parent, tag, text, attributes) {
  const svg = ["svg","circle","path","line","text","title"].includes(tag) &&
    (tag === "svg" || parent.namespaceURI.endsWith("svg"));
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
                   : document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  parent.appendChild(made);
  return made;
}
const unique = values => [...new Set(values)].sort();
function median(values) {
  const s = [...values].sort((a, b) => a - b), m = (s.length - 1) / 2;
  return (s[Math.floor(m)] + s[Math.ceil(m)]) / 2;
}
function groups(list, key) {
  const found = new Map();
  for (const row of list) {
    const name = key(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
}
function filters() {
  const place = document.getElementById("filters");
  for (const field of ["device", "delegate", "threads", "model"]) {
    const label = add(place, "label", field + " "), select = add(label, "select");
    select.id = "filter-" + field;
    add(select, "option", "all", {value: ""});
    for (const value of unique(rows.map(r => String(r[field]))))
      add(select, "option", value, {value});
    select.onchange = () => { chosen[field] = select.value; draw(); };
  }
}
const shown = () => rows.filter(r =>
  Object.entries(chosen).every(([field, value]) => !value || String(r[field]) === value));
function plot(parent, series, options) {
  const points = series.flatMap(s => s.points);
  if (!points.length) return;
  const W = 1000, H = 360, L = 64, B = 46, T = 14, R = 18;
  const range = n => {
    let low = Math.min(...points.map(p => p[n])), high = Math.max(...points.map(p => p[n]));
    if (n === 1 && options.fromZero) low = 0;
    if (low === high) { low -= Math.abs(low) * .1 || 1; high += Math.abs(high) * .1 || 1; }
    const margin = (high - low) * .05;
    return [n === 1 && options.fromZero ? 0 : low < 0 ? low - margin : Math.max(0, low - margin),
      high + margin];
  };
  const [x0, x1] = range(0), [y0, y1] = range(1);
  const X = x => L + (x - x0) / (x1 - x0) * (W - L - R);
  const Y = y => H - B - (y - y0) / (y1 - y0) * (H - B - T);
  const svg = add(parent, "svg", null, {viewBox: `0 0 ${W} ${H}`, role: "img"});
  for (let n = 0; n <= 4; n++) {
    const x = x0 + (x1 - x0) * n / 4, y = y0 + (y1 - y0) * n / 4;
    add(svg, "line", null, {x1: L, x2: W - R, y1: Y(y), y2: Y(y), stroke: "#ddd"});
    add(svg, "text", Number(y.toPrecision(3)), {x: L - 8, y: Y(y) + 4, "text-anchor": "end"});
    add(svg, "text", options.xText ? options.xText(x) : Number(x.toPrecision(3)),
      {x: X(x), y: H - B + 18, "text-anchor": n === 0 ? "start" : n === 4 ? "end" : "middle"});
  }
  add(svg, "text", options.x, {x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle"});
  add(svg, "text", options.y, {x: 14, y: (H - B) / 2, "text-anchor": "middle",
    transform: `rotate(-90 14 ${(H - B) / 2})`});
  series.forEach((one, number) => {
    const color = COLORS[number % COLORS.length];
    if (one.line) add(svg, "path", null, {fill: "none", stroke: one.color || color,
      "stroke-width": 1.5, "stroke-dasharray": one.dashed ? "6 4" : "none",
      d: one.points.map((p, n) => `${n ? "L" : "M"}${X(p[0])} ${Y(p[1])}`).join("")});
    if (!one.dashed) for (const p of one.points)
      add(add(svg, "circle", null, {cx: X(p[0]), cy: Y(p[1]), r: 4, fill: color}), "title",
        `${one.name}${p[2] ? ", " + p[2] : ""}: ${Number(p[1].toPrecision(4))}`);
  });
  const legend = add(parent, "p", null, {class: "legend"});
  series.forEach((one, number) => {
    if (one.dashed) return;
    const item = add(legend, "span");
    add(item, "i", null, {style: `background:${COLORS[number % COLORS.length]}`});
    item.append(one.name);
  });
}
const configuration = r =>
  [r.device, r.program, r.delegate, `${r.threads} thread(s)`, r.conditions]
    .filter(text => text).join(", ");
function table(parent, list) {
  const names = ["device and program", "model", "processes", "median ms", "mJ", "GHz",
    "delegated", "others"];
  const made = add(parent, "table"), head = add(add(made, "thead"), "tr");
  names.forEach((name, n) => add(head, "th", name, n > 1 && n < 6 ? {class: "n"} : {}));
  const body = add(made, "tbody");
  for (const [, own] of groups(list, r => configuration(r) + "\u0000" + r.model)) {
    const good = own.filter(r => r.status === "ok" && r.ms !== null), line = add(body, "tr");
    const bad = [...groups(own.filter(r => r.status !== "ok"), r => r.status)];
    add(line, "td", configuration(own[0]));
    add(line, "td", own[0].model);
    add(line, "td", good.length, {class: "n"});
    add(line, "td", good.length ? median(good.map(r => r.ms)).toFixed(3) : "", {class: "n"});
    for (const [field, digits] of [["energy_mj", 2], ["clock_ghz", 2]]) {
      const known = good.map(r => r[field]).filter(x => x !== null && x !== undefined);
      add(line, "td", known.length ? median(known).toFixed(digits) : "", {class: "n"});
    }
    const taken = good.find(r => r.delegated !== null);
    add(line, "td", taken ? `${taken.delegated} of ${taken.total ?? "?"}` : "");
    add(line, "td", bad.map(([status, some]) => `${some.length} ${status}`).join(", "),
      {class: "bad", title: own.flatMap(r => r.notes).slice(0, 6).join("\n")});
  }
}
function front(points) {
  const best = [];
  for (const p of [...points].sort((a, b) => a[0] - b[0] || b[1] - a[1]))
    if (!best.length || p[1] > best[best.length - 1][1]) best.push(p);
  return best.flatMap((p, n) => n ? [[p[0], best[n - 1][1]], p] : [p]);
}
function draw() {
  const content = document.getElementById("content"), list = shown();
  content.textContent = "";
  const latency = list.filter(r => r.kind === "latency");
  const good = latency.filter(r => r.status === "ok" && r.ms !== null);
  add(content, "h2", "Measurements");
  table(content, latency);
  for (const [metric, label, scale] of [["accuracy", "top-1 accuracy (%)", 1],
                                        ["multiply_adds", "multiply-adds (millions)", 1e-6]]) {
    const known = good.filter(r => metrics[r.model] && metric in metrics[r.model]);
    if (!known.length) continue;
    add(content, "h2", "Latency and " + label);
    const series = [];
    for (const [name, own] of groups(known, configuration)) {
      const points = [...groups(own, r => r.model)].map(([model, some]) =>
        [median(some.map(r => r.ms)), metrics[model][metric] * scale,
         metrics[model].label || model]);
      series.push({name, points});
    }
    series.push({name: "", dashed: true, line: true, color: "#555",
      points: front(series.flatMap(s => s.points))});
    plot(content, series, {x: "latency (ms)", y: label});
  }
  const dated = good.filter(r => !isNaN(Date.parse(r.started)));
  if (new Set(dated.map(r => r.session)).size > 1) {
    add(content, "h2", "Over time");
    const series = [];
    for (const [name, own] of groups(dated, r => r.model + ", " + configuration(r)))
      series.push({name, line: true, points: [...groups(own, r => r.session)].map(([, some]) =>
        [Date.parse(some[0].started), median(some.map(r => r.ms)), some[0].started.slice(0, 10)])
        .sort((a, b) => a[0] - b[0])});
    plot(content, series, {x: "date", y: "latency (ms), median of a session", fromZero: true,
      xText: x => new Date(x).toISOString().slice(0, 10)});
  }
  const sustained = list.filter(r => r.kind === "sustained" && r.ms !== null);
  if (sustained.length) add(content, "h2", "Sustained");
  for (const [field, label, fromZero] of [["ms", "latency (ms)", true],
      ["clock_ghz", "clock (GHz)", true], ["hottest_c", "hottest sensor (C)", false],
      ["battery_c", "battery (C)", false]]) {
    const series = [];
    const known = sustained.filter(r => r[field] !== null && r[field] !== undefined);
    for (const [name, own] of groups(known,
        r => r.model + ", " + configuration(r) + "\u0000" + r.session)) {
      const begin = Math.min(...own.map(r => Date.parse(r.started)));
      series.push({name: name.split("\u0000")[0], line: true, points: own.map(r =>
        [(Date.parse(r.started) - begin) / 60000, r[field], ""]).sort((a, b) => a[0] - b[0])});
    }
    plot(content, series, {x: "minutes", y: label, fromZero});
  }
  lines(content, "Verification", list.filter(r => r.kind === "verification"),
    ["images", "dB", "worst image, dB", "same class", "verdict"], r => {
      const a = r.agreement || {}, fixed = x => x === null || x === undefined ? "" : x.toFixed(1);
      return [a.images ?? 0, fixed(a.decibels), fixed(a.worst_decibels),
        a.agreeing === null || a.agreeing === undefined ? "" : `${a.agreeing} of ${a.images}`,
        r.status === "ok" ? "ok" : [r.status, ...r.notes.slice(0, 1)].join(": ")];
    });
  lines(content, "Cold start", list.filter(r => r.kind === "cold_start" && r.status === "ok"),
    ["initialization, ms", "first inference, ms", "page cache"],
    r => [r.init_ms, r.first_ms].map(x => x === null ? "" : x.toFixed(2)).concat(r.page_cache));
}
function lines(parent, title, list, names, values) {
  if (!list.length) return;
  add(parent, "h2", title);
  const made = add(parent, "table"), head = add(add(made, "thead"), "tr");
  ["device and program", "model", ...names].forEach(name => add(head, "th", name));
  const body = add(made, "tbody");
  for (const row of list) {
    const line = add(body, "tr", null, row.status === "ok" ? {} : {class: "bad"});
    [configuration(row), `${row.model} ${row.variant}`.trim(), ...values(row)]
      .forEach(value => add(line, "td", String(value ?? "")));
  }
}
filters();
draw();
</script></body></html>
"""
