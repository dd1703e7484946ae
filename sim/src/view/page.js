(() => {
"use strict";
const run = JSON.parse(document.getElementById("run").textContent);
const $ = id => document.getElementById(id);
const DOWN = 255, IDLE = 254, LEFT = 70, RIGHT = 14, AXIS = 18;
let view = [0, run.end], colours = {}, ramp = [], rows = [], hover = null, drag = null;

// ---- words and figures
const seconds = tick => tick * run.tick;
const fixed = (value, digits) => value.toFixed(digits);
const time = tick => fixed(seconds(tick), seconds(view[1] - view[0]) < 10 ? 3 : seconds(view[1] - view[0]) < 100 ? 2 : 1) + " s";
const bytes = value => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < 4) { value /= 1000; unit++; }
  return (value >= 100 || unit === 0 ? Math.round(value) : value.toPrecision(3)) + " " + units[unit];
};
const count = value => value >= 1e6 ? (value / 1e6).toPrecision(3) + " M" : value >= 1e4 ? Math.round(value / 1e3) + " k" : String(Math.round(value));
const nice = (span, wanted) => {
  const raw = span / wanted, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map(it => it * power).find(it => it >= raw) || 10 * power;
};

// ---- indexes
const laneOf = new Array(run.nodes).fill(0);
run.lanes.forEach((lane, place) => { for (let i = 0; i < lane.count; i++) laneOf[lane.node + i * lane.step] = place; });
const firstOf = pairs => { const map = new Map(); pairs.forEach(([at, node]) => { if (!map.has(node)) map.set(node, at); }); return map; };
const lastOf = pairs => { const map = new Map(); pairs.forEach(([at, node]) => map.set(node, at)); return map; };
const begun = firstOf(run.begun), finished = lastOf(run.finished);
const ends = run.finished.map(pair => pair[0]).sort((a, b) => a - b);
const begins = run.begun.map(pair => pair[0]).sort((a, b) => a - b);
const all = Math.max(1, begins.length);
const before = (sorted, at) => { let low = 0, high = sorted.length; while (low < high) { const middle = (low + high) >> 1; if (sorted[middle] <= at) low = middle + 1; else high = middle; } return low; };
const average = (() => {
  const steps = [];
  run.lanes.forEach(lane => {
    let last = 0;
    for (let i = 0; i < lane.changes.length; i += 2) {
      const level = lane.changes[i + 1] > run.full ? 0 : lane.changes[i + 1];
      steps.push([lane.changes[i], (level - last) * lane.count]);
      last = level;
    }
  });
  steps.sort((a, b) => a[0] - b[0]);
  const curve = [];
  let sum = 0;
  for (const [at, by] of steps) {
    sum += by;
    if (curve.length && curve[curve.length - 1][0] === at) curve[curve.length - 1][1] = sum; else curve.push([at, sum]);
  }
  const full = Math.max(1, run.full * run.nodes);
  return curve.map(([at, sum]) => [at, sum / full]);
})();
const levelAt = (lane, at) => { let level = IDLE; for (let i = 0; i < lane.changes.length && lane.changes[i] <= at; i += 2) level = lane.changes[i + 1]; return level; };

// ---- drawing
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["card", "ink", "soft", "rule", "none", "some", "most", "full", "down", "idle", "accent", "origin", "talk", "best", "fault", "bad", "path"])
    colours[name] = style.getPropertyValue("--" + name).trim();
  const parts = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
  const mix = (one, other, share) => "rgb(" + parts(one).map((part, i) => Math.round(part + (parts(other)[i] - part) * share)).join(",") + ")";
  ramp = [];
  for (let level = 0; level < run.full; level++) ramp.push(level === 0 ? colours.none : mix(colours.some, colours.most, (level - 1) / (run.full - 2)));
  ramp.push(colours.full);
}
const colourOf = level => level === DOWN ? colours.down : level === IDLE ? colours.idle : ramp[level];
const panels = [];
function panel(id, height, draw, tip) {
  const canvas = $(id);
  const it = { canvas, height, draw, tip, picture: document.createElement("canvas"), width: 0 };
  panels.push(it);
  const place = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("mousemove", event => { const [x, y] = place(event); hover = { it, x, y, cx: event.clientX, cy: event.clientY }; refresh(); });
  canvas.addEventListener("mouseleave", () => { hover = null; refresh(); });
  canvas.addEventListener("mousedown", event => { drag = { from: tickOf(it, place(event)[0]) }; event.preventDefault(); });
  canvas.addEventListener("dblclick", () => { view = [0, run.end]; render(); });
  return it;
}
const plot = it => it.width - LEFT - RIGHT;
const xOf = (it, tick) => LEFT + (tick - view[0]) / (view[1] - view[0]) * plot(it);
const tickOf = (it, x) => view[0] + Math.min(1, Math.max(0, (x - LEFT) / plot(it))) * (view[1] - view[0]);

function render() {
  readColours();
  $("zoom-out").hidden = view[0] === 0 && view[1] === run.end;
  $("zoom-hint").hidden = !$("zoom-out").hidden;
  for (const it of panels) {
    const ratio = window.devicePixelRatio || 1;
    it.width = it.canvas.clientWidth;
    const height = typeof it.height === "function" ? it.height() : it.height;
    for (const canvas of [it.canvas, it.picture]) { canvas.width = Math.round(it.width * ratio); canvas.height = Math.round(height * ratio); }
    it.canvas.style.height = height + "px";
    const pen = it.picture.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    it.draw(pen, it, height);
  }
  refresh();
}
function refresh() {
  for (const it of panels) {
    const pen = it.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, it.canvas.width, it.canvas.height);
    if (it.canvas.width) pen.drawImage(it.picture, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!hover) continue;
    const at = tickOf(hover.it, hover.x), x = xOf(it, at);
    if (drag) { pen.fillStyle = colours.accent; pen.globalAlpha = .2; const from = xOf(it, drag.from); pen.fillRect(Math.min(from, x), 0, Math.abs(x - from), it.canvas.clientHeight); pen.globalAlpha = 1; }
    pen.strokeStyle = colours.ink; pen.globalAlpha = .5; pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, it.canvas.clientHeight); pen.stroke(); pen.globalAlpha = 1;
  }
  const tip = $("tip");
  tip.hidden = !hover;
  if (!hover) return;
  const at = tickOf(hover.it, hover.x);
  const faults = run.faults.filter(fault => fault.from <= at && (fault.to === null || fault.to >= at));
  const lines = ["at " + time(at), ...hover.it.tip(at, hover.y)];
  if (faults.length) lines.push("fault: " + faults.map(fault => fault.words + (fault.whom ? " (" + fault.whom + ")" : "")).join("; "));
  tip.textContent = lines.join("\n");
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.min(hover.cx + 14, window.innerWidth - box.width - 8) + "px";
  tip.style.top = (hover.cy + 18 + box.height > window.innerHeight ? hover.cy - box.height - 10 : hover.cy + 18) + "px";
}
function ground(pen, it, height, bottom) {
  pen.save(); pen.beginPath(); pen.rect(LEFT, 0, plot(it), height); pen.clip();
  pen.fillStyle = colours.fault; pen.globalAlpha = .12;
  for (const fault of run.faults) { const from = xOf(it, fault.from), to = fault.to === null ? it.width : xOf(it, fault.to); pen.fillRect(from, 0, Math.max(1.5, to - from), height - bottom); }
  pen.restore();
  const step = nice(seconds(view[1] - view[0]), 10), digits = Math.max(0, -Math.floor(Math.log10(step)));
  pen.strokeStyle = colours.rule; pen.fillStyle = colours.soft; pen.lineWidth = 1; pen.textAlign = "center"; pen.textBaseline = "alphabetic";
  for (let at = Math.ceil(seconds(view[0]) / step) * step; at <= seconds(view[1]) + 1e-9; at += step) {
    const x = Math.round(xOf(it, at / run.tick)) + .5;
    pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, height - bottom); pen.stroke();
    if (bottom) pen.fillText(fixed(at, digits) + " s", Math.min(x, it.width - 20), height - 5);
  }
}
function scale(pen, it, top, bottom, most, label) {
  pen.textAlign = "right"; pen.textBaseline = "middle"; pen.fillStyle = colours.soft; pen.strokeStyle = colours.rule;
  const step = nice(most, Math.max(2, (bottom - top) / 34));
  for (let value = 0; value <= most * 1.0001; value += step) {
    const y = Math.round(bottom - value / most * (bottom - top)) + .5;
    pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(it.width - RIGHT, y); pen.stroke();
    pen.fillText(label(value), LEFT - 6, Math.max(7, y));
  }
}
function within(pen, it, height, draw) { pen.save(); pen.beginPath(); pen.rect(LEFT, 0, plot(it), height); pen.clip(); draw(); pen.restore(); }

// ---- completion
panel("completion", 170, (pen, it, height) => {
  const top = 10, bottom = height - AXIS, y = share => bottom - share * (bottom - top);
  ground(pen, it, height, AXIS);
  scale(pen, it, top, bottom, 1, value => Math.round(value * 100) + " %");
  const stairs = (sorted, shift) => {
    pen.beginPath(); pen.moveTo(xOf(it, 0), y(0));
    sorted.forEach((at, i) => { const x = xOf(it, at + shift); pen.lineTo(x, y(i / all)); pen.lineTo(x, y((i + 1) / all)); });
    pen.lineTo(it.width, y(sorted.length / all));
  };
  within(pen, it, height, () => {
    pen.beginPath(); pen.moveTo(xOf(it, 0), y(0));
    let last = 0;
    for (const [at, share] of average) { pen.lineTo(xOf(it, at), y(last)); pen.lineTo(xOf(it, at), y(share)); last = share; }
    pen.lineTo(it.width, y(last)); pen.lineTo(it.width, y(0)); pen.closePath();
    pen.fillStyle = colours.some; pen.globalAlpha = .45; pen.fill(); pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.strokeStyle = colours.soft; pen.setLineDash([2, 3]); stairs(begins, 0); pen.stroke();
    pen.strokeStyle = colours.best; pen.setLineDash([6, 4]); stairs(begins, run.optimum); pen.stroke();
    pen.strokeStyle = colours.accent; pen.setLineDash([]); pen.lineWidth = 2.2; stairs(ends, 0); pen.stroke();
    if (begins.length) {
      const x = xOf(it, begins[0] + run.optimum);
      pen.fillStyle = colours.best; pen.textAlign = "right"; pen.textBaseline = "top"; pen.fillText("T* " + fixed(seconds(run.optimum), 2) + " s", x - 5, top + 2);
    }
  });
}, at => [before(ends, at) + " of " + all + " pulls done; at the optimum " + before(begins, at - run.optimum), Math.round(100 * ((average.filter(step => step[0] <= at).pop() || [0, 0])[1])) + " % of everything is there"]);

// ---- series
function series(id, height, data, colour, label, limit, limitWords) {
  const rate = (from, to) => {
    const first = Math.max(0, Math.floor(seconds(from) / data.width)), last = Math.min(data.sums.length, Math.max(first + 1, Math.ceil(seconds(to) / data.width)));
    let sum = 0;
    for (let i = first; i < last; i++) sum += data.sums[i];
    return sum / ((last - first) * data.width || 1);
  };
  // Bytes count chunk by chunk: narrow windows would show single ones.
  const window_ = () => Math.max((view[1] - view[0]) / 80, data.width / run.tick);
  panel(id, height, (pen, it) => {
    const points = [], half = window_() / 2;
    for (let x = LEFT; x <= it.width - RIGHT; x += 1) { const at = tickOf(it, x); points.push([x, at - half > run.end ? 0 : rate(at - half, at + half)]); }
    const found = Math.max(1, ...points.map(point => point[1])) * 1.1, most = limit ? Math.min(found, limit * 1.3) : found;
    const top = 6, bottom = height - 4, y = value => bottom - value / most * (bottom - top);
    ground(pen, it, height, 0);
    scale(pen, it, top, bottom, most, label);
    within(pen, it, height, () => {
      pen.beginPath(); pen.moveTo(LEFT, bottom);
      for (const [x, value] of points) pen.lineTo(x, y(value));
      pen.lineTo(it.width - RIGHT, bottom); pen.closePath();
      pen.fillStyle = colours[colour]; pen.globalAlpha = .3; pen.fill(); pen.globalAlpha = 1;
      pen.beginPath();
      points.forEach(([x, value], i) => i ? pen.lineTo(x, y(value)) : pen.moveTo(x, y(value)));
      pen.strokeStyle = colours[colour]; pen.lineWidth = 1.3; pen.stroke();
      if (limit && limit <= most) {
        pen.setLineDash([5, 4]); pen.strokeStyle = colours.soft; pen.beginPath(); pen.moveTo(LEFT, y(limit)); pen.lineTo(it.width, y(limit)); pen.stroke(); pen.setLineDash([]);
        pen.fillStyle = colours.soft; pen.textAlign = "right"; pen.textBaseline = "bottom"; pen.fillText(limitWords, it.width - RIGHT - 4, y(limit) - 1);
      }
    });
  }, at => { const sum = data.sums.slice(0, Math.ceil(seconds(at) / data.width)).reduce((a, b) => a + b, 0); return [label(rate(at - window_() / 2, at + window_() / 2)) + (id === "messages" ? " messages a second" : "/s") + "; " + label(sum) + " so far"]; });
}
series("registry", 84, run.origin, "origin", bytes, run.origin_rate, "what the registry can send");
series("peers", 84, run.peers, "accent", bytes, run.node_rate * run.nodes, "what all nodes can receive");
series("messages", 56, run.messages, "talk", count, 0, "");

// ---- faults
const FAULT_ROW = 20;
if (run.faults.length) panel("faults", Math.min(run.faults.length, 14) * FAULT_ROW + 6, (pen, it, height) => {
  ground(pen, it, height, 0);
  const row = (height - 6) / run.faults.length;
  within(pen, it, height, () => run.faults.forEach((fault, i) => {
    const from = xOf(it, fault.from), to = fault.to === null ? it.width : xOf(it, fault.to), y = 3 + i * row;
    pen.fillStyle = colours.fault; pen.globalAlpha = .55; pen.fillRect(from, y + 1, Math.max(3, to - from), row - 2); pen.globalAlpha = 1;
    if (row < 11) return;
    pen.fillStyle = colours.ink; pen.textBaseline = "middle"; pen.textAlign = "left";
    const words = fault.words + (fault.whom ? ", " + fault.whom : ""), wide = pen.measureText(words).width;
    const left = Math.max(LEFT, from) + 6;
    pen.fillText(words, left + wide > it.width - RIGHT ? Math.max(LEFT + 4, Math.min(left, it.width - RIGHT - wide - 4)) : left, y + row / 2);
  }));
}, () => []); else $("faults-section").hidden = true;

// ---- nodes
const rowHeight = () => { const lanes = rows.length || 1; return lanes <= 12 ? 22 : Math.max(1, Math.min(14, Math.floor(680 / lanes))); };
function arrange() {
  rows = run.lanes.map((_, place) => place);
  if ($("order").value === "done") {
    const doneAt = lane => { let last = -1; for (let i = 0; i < lane.count; i++) last = Math.max(last, finished.has(lane.node + i * lane.step) ? finished.get(lane.node + i * lane.step) : 1e12); return last; };
    const keys = run.lanes.map(doneAt);
    rows.sort((a, b) => keys[a] - keys[b] || a - b);
  }
}
const rowsOf = () => { const map = []; rows.forEach((lane, row) => { map[lane] = row; }); return map; };
const named = lane => lane.count === 1 ? "node " + lane.node : lane.count + " nodes from " + lane.node + " on";
const lanesPanel = panel("lanes", () => rows.length * rowHeight() + AXIS + 6, (pen, it, height) => {
  const tall = rowHeight(), top = 3, where = rowsOf(), gap = tall >= 4 ? 1 : 0;
  const middle = node => top + (where[laneOf[node]] + .5) * tall;
  ground(pen, it, height, AXIS);
  within(pen, it, height, () => rows.forEach((place, row) => {
    const changes = run.lanes[place].changes, y = top + row * tall;
    for (let i = 0; i < changes.length; i += 2) {
      const from = Math.max(LEFT, xOf(it, changes[i])), to = Math.min(it.width - RIGHT, xOf(it, i + 2 < changes.length ? changes[i + 2] : run.end));
      if (to <= LEFT || from >= it.width - RIGHT || to <= from) continue;
      pen.fillStyle = colourOf(changes[i + 1]);
      pen.fillRect(from, y, to - from + .4, tall - gap);
    }
  }));
  pen.fillStyle = colours.soft; pen.textAlign = "right"; pen.textBaseline = "middle";
  const wanted = Math.ceil(14 / tall), every = [1, 2, 5, 10, 20, 50, 100].find(it => it >= wanted) || wanted, byNode = $("order").value === "node";
  let zone = -1;
  rows.forEach((place, row) => {
    const lane = run.lanes[place];
    if (byNode && run.zones > 1 && lane.zone !== zone) {
      zone = lane.zone;
      pen.fillText("zone " + zone, LEFT - 6, top + row * tall + Math.max(6, tall / 2));
      if (row) { pen.strokeStyle = colours.ink; pen.globalAlpha = .6; pen.beginPath(); pen.moveTo(8, top + row * tall - .5); pen.lineTo(it.width - RIGHT, top + row * tall - .5); pen.stroke(); pen.globalAlpha = 1; }
    } else if (row % every === 0 && tall * every >= 12 && (tall >= 12 || byNode && run.zones === 1)) pen.fillText((tall >= 12 || !row ? "node " : "") + lane.node, LEFT - 6, top + row * tall + Math.max(6, tall / 2));
  });
  within(pen, it, height, () => {
    if ($("show-path").checked && run.path) {
      pen.strokeStyle = colours.path; pen.fillStyle = colours.path; pen.lineWidth = 1.3; pen.lineJoin = "round"; pen.globalAlpha = .75; pen.beginPath();
      run.path.points.forEach(([at, node], i) => i ? pen.lineTo(xOf(it, at), middle(node)) : pen.moveTo(xOf(it, at), middle(node)));
      pen.stroke();
      if (run.path.points.length < 400) run.path.points.forEach(([at, node]) => { pen.beginPath(); pen.arc(xOf(it, at), middle(node), 2, 0, 7); pen.fill(); });
      pen.globalAlpha = 1;
    }
    pen.textAlign = "center"; pen.textBaseline = "middle";
    const mark = (pairs, letter, colour) => { pen.fillStyle = colour; pen.font = "bold 13px sans-serif"; pairs.forEach(([at, node]) => pen.fillText(letter, xOf(it, at), middle(node))); };
    pen.fillStyle = colours.origin; pen.strokeStyle = colours.card; pen.lineWidth = 1;
    run.fallbacks.forEach(([at, node]) => { pen.beginPath(); pen.arc(xOf(it, at), middle(node), 3.2, 0, 7); pen.fill(); pen.stroke(); });
    mark(run.failed, "×", colours.bad);
    pen.strokeStyle = colours.card; pen.lineWidth = 3; pen.font = "bold 17px sans-serif";
    run.violations.forEach(({ at, node }) => { const y = node === null ? top + 6 : middle(node); const x = Math.max(LEFT + 8, Math.min(it.width - RIGHT - 8, xOf(it, at))); if (at < view[0] || at > view[1]) return; pen.strokeText("▲", x, y); pen.fillStyle = colours.bad; pen.fillText("▲", x, y); });
    if (tall >= 6) { pen.strokeStyle = colours.soft; pen.lineWidth = 1; run.begun.forEach(([at, node]) => { const x = xOf(it, at), y = middle(node); pen.beginPath(); pen.moveTo(x, y - tall / 2); pen.lineTo(x, y + tall / 2); pen.stroke(); }); }
  });
}, (at, y) => {
  const lane = run.lanes[rows[Math.floor((y - 3) / rowHeight())]];
  if (!lane) return [];
  const level = levelAt(lane, at), lines = [named(lane) + (run.zones > 1 ? ", zone " + lane.zone : "")];
  lines.push(level === DOWN ? "down" : level === IDLE ? "pulls nothing" : level === run.full ? "pull done" : "has " + Math.round(level / run.full * 100) + " % of its image");
  if (lane.count === 1) {
    if (begun.has(lane.node)) lines.push("pull begun at " + time(begun.get(lane.node)) + (finished.has(lane.node) ? ", done at " + time(finished.get(lane.node)) : ", never done"));
    lines.push(...run.violations.filter(it => it.node === lane.node).slice(0, 3).map(it => "▲ " + it.text));
  }
  const near = (run.path ? run.path.lines : []).filter(line => line.node !== null && laneOf[line.node] === run.lanes.indexOf(lane) && Math.abs(xOf(lanesPanel, line.at) - xOf(lanesPanel, at)) < 5);
  if ($("show-path").checked) lines.push(...near.slice(0, 4).map(line => "chain: " + line.happened + (line.did ? " → " + line.did : "")));
  return lines;
});

// ---- words around the pictures
$("about").textContent = run.about;
$("hash").textContent = run.trace_hash;
$("verdict").textContent = run.is_good ? "as expected ·" : "NOT as expected ·";
$("verdict").className = run.is_good ? "good" : "bad";
for (const [name, value] of run.figures) { const box = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd"); dt.textContent = name; dd.textContent = value; box.append(dt, dd); $("figures").append(box); }
if (run.problems.length) {
  $("problems").hidden = false;
  run.problems.forEach((text, i) => {
    const item = document.createElement("li"), place = run.violations[i];
    item.textContent = text;
    if (place) { item.className = "place"; item.title = "look closer"; item.onclick = () => { const half = run.end / 20; view = [Math.max(0, place.at - half), Math.min(run.end, place.at + half)]; render(); }; }
    $("problems").querySelector("ol").append(item);
  });
}
const SHARES = ["accent", "origin", "path", "full", "fault", "talk", "bad", "soft"];
if (run.path) {
  const cell = (row, text, kind) => { const it = document.createElement("td"); it.textContent = text; if (kind) it.className = kind; row.append(it); };
  $("why").hidden = false;
  $("why-title").textContent = "Why " + run.path.title;
  const total = run.path.shares.reduce((sum, share) => sum + share.seconds, 0);
  run.path.shares.slice(0, SHARES.length).forEach((share, i) => {
    const bar = document.createElement("div"), item = document.createElement("li"), box = document.createElement("i");
    bar.style.cssText = "flex:" + share.seconds + ";background:var(--" + SHARES[i] + ")";
    box.style.background = "var(--" + SHARES[i] + ")";
    const words = fixed(share.seconds, 3) + " s (" + Math.round(100 * share.seconds / total) + " %) " + share.what + (share.times > 1 ? ", " + share.times + " times" : "");
    bar.title = words;
    item.append(box, words);
    $("shares").append(bar); $("shares-key").append(item);
  });
  const longest = run.path.lines.filter(line => line.event !== null).map(line => line.waited).sort((a, b) => b - a)[2] || 0;
  for (const line of run.path.lines) {
    const row = document.createElement("tr");
    if (line.event === null) { row.className = "gap"; cell(row, ""); cell(row, ""); cell(row, "+" + fixed(line.waited, 6), "number"); cell(row, ""); cell(row, "… " + line.happened); cell(row, ""); }
    else {
      row.className = line.is_beside ? "beside" : line.waited > 0 && line.waited >= longest ? "long" : "";
      cell(row, (line.is_beside ? "! " : "") + line.event, "number"); cell(row, fixed(seconds(line.at), 6), "number"); cell(row, line.is_beside ? "" : "+" + fixed(line.waited, 6), "number");
      cell(row, line.node === null ? "-" : String(line.node), "number"); cell(row, line.happened); cell(row, line.did);
    }
    $("chain").append(row);
  }
}
$("order").onchange = () => { arrange(); render(); };
$("show-path").onchange = render;
$("show-path").parentElement.hidden = !run.path;
$("zoom-out").onclick = () => { view = [0, run.end]; render(); };
window.addEventListener("mouseup", event => {
  if (!drag) return;
  const it = hover ? hover.it : panels[0], box = it.canvas.getBoundingClientRect();
  const to = tickOf(it, event.clientX - box.left), range = [Math.min(drag.from, to), Math.max(drag.from, to)];
  drag = null;
  if (range[1] - range[0] > Math.max(3, (view[1] - view[0]) / 200)) { view = range; render(); } else refresh();
});
window.addEventListener("resize", render);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
arrange();
render();
})();
