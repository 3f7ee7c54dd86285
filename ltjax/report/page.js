// The page works without this: it adds sorting, filters, toggles and charts with values
// to tables and pictures that are there already.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("page-data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, parent, attributes = {}, text = "") => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  parent.append(node);
  return node;
};

// ------------------------------------------------------------------------------ Tables

const value = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || isNaN(text) ? text : Number(text);
};

function sortBy(table, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === "");  // unknown ones last
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
  all("thead th", table).forEach((head, at) =>
    head.setAttribute("aria-sort", at === column ? direction : "none"));
}

function makeSortable(table) {
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.first ?? "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      sortBy(table, column, now === first ? other : first);
    });
  });
}

// What a filter looks at: numbers would match by accident.
const namesIn = (row) => [...row.cells].map((_, column) => value(row, column))
  .filter((found) => typeof found === "string").join(" ").toLowerCase();

// A row is shown if its method is, it holds the words looked for, and it is about the
// baseline chosen.
function refresh(table) {
  const section = table.closest("section");
  const words = (table.words ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const text = words.length ? namesIn(row) : "";
    row.hidden = section?.off?.has(row.dataset.method) ||
      (table.baseline !== undefined && row.dataset.baseline !== table.baseline) ||
      !words.every((word) => text.includes(word));
  }
  if (table.told) {
    const shown = rows.filter((row) => !row.hidden).length;
    table.told.textContent = words.length ? `${shown} rows` : "";
  }
}

function addControls(table) {
  const bar = make("div", document.body, { class: "controls" });
  table.parentNode.before(bar);
  if (table.dataset.baselines) {
    const label = make("label", bar, {}, "compared with ");
    const select = make("select", label);
    for (const name of JSON.parse(table.dataset.baselines)) {
      make("option", select, { value: name }, name);
    }
    const choose = () => { table.baseline = select.value; refresh(table); };
    select.addEventListener("change", choose);
    choose();
  }
  if (table.dataset.filter) {
    const label = make("label", bar, {}, `${table.dataset.filter} `);
    const input = make("input", label, { type: "search", placeholder: "filter" });
    table.told = make("output", bar);
    input.addEventListener("input", () => { table.words = input.value; refresh(table); });
  }
  if (!bar.childElementCount) bar.remove();
}

// ----------------------------------------------------------------------------- Methods

const SVG = document.querySelector("svg").namespaceURI;
const draw = (tag, parent, attributes, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};

function hideColumns(section) {
  const rules = all("table[data-columns]", section).flatMap((table) =>
    all("thead th", table).flatMap((head, at) => section.off.has(head.dataset.method)
      ? `#${table.id} tr > :nth-child(${at + 1}) { display: none; }` : []));
  section.rules ??= make("style", document.head);
  section.rules.textContent = rules.join("\n");
}

function addToggles(section) {
  section.off = new Set();
  for (const box of all("fieldset.methods input", section)) {
    box.addEventListener("change", () => {
      section.off[box.checked ? "delete" : "add"](box.value);
      all("table", section).forEach(refresh);
      all("[data-method]:not(tr):not(th)", section).forEach(
        (node) => { node.hidden = section.off.has(node.dataset.method); });
      hideColumns(section);
      all("figure[data-chart]", section).forEach(show);
    });
  }
}

// ------------------------------------------------------------------------------ Charts

const short = (number) => {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e4) return `${+(number / 1000).toPrecision(3)}k`;
  return size < 1e-3 ? number.toExponential(1) : String(+number.toPrecision(4));
};

function ticksOf(low, high, log, count) {
  if (log) {
    const [from, to] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
    const found = [];
    for (let k = from; k <= to; k += Math.ceil((to - from + 1) / count)) {
      found.push(10 ** k);
    }
    return found.length > 1 ? found : [low, high];
  }
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high * (1 + 1e-9); at++) {
    found.push(+(at * step).toPrecision(12));
  }
  return found;
}

function scaleOf(axis, values, from, to) {
  let low = axis.min ?? Math.min(...values);
  let high = axis.max ?? Math.max(...values);
  if (axis.log) {
    if (low === high) [low, high] = [low / 2, 2 * high];
    [low, high] = [axis.min ?? low / 1.15, axis.max ?? high * 1.15];
  } else {
    const room = low === high ? Math.abs(low) / 10 || 1 : (high - low) / 20;
    [low, high] = [axis.min ?? low - room, axis.max ?? high + room];
  }
  const place = axis.log ? Math.log : (x) => x;
  const scale = (x) =>
    from + (to - from) * (place(x) - place(low)) / (place(high) - place(low));
  return Object.assign(scale, { low, high });
}

const styleOf = (section, series) =>
  data.methods[section.id][series.method] ?? { color: series.color, dash: "" };

function drawPanel(section, panel, box) {
  if (panel.title) make("h4", box, {}, panel.title);
  const known = panel.series.filter((one) => !section.off.has(one.method));
  if (panel.legend) {
    const list = make("ul", box);
    for (const one of panel.series) {
      make("li", list, { style: `color:${one.color}` }, `\u25cf ${one.name}`);
    }
  }
  const width = Math.max(box.clientWidth, 240);
  const height = Math.round(Math.min(340, Math.max(230, 0.55 * width)));
  const names = panel.x.names;
  const room = (width - 100) / (names?.length ?? 1);
  const longest = names ? Math.max(...names.map((name) => name.length)) : 0;
  const slanted = 6.5 * longest > room;
  const points = panel.series.flatMap((one) => one.points);
  const spread = points.flatMap(([, y, std]) => [y - (std ?? 0), y + (std ?? 0)]);
  const heights = panel.y.log ? points.map(([, y]) => y) : spread;
  const top = 24;
  const bottom = height - 40 - (slanted ? Math.min(4.6 * longest, 70) : 0);
  const y = scaleOf(panel.y, heights, bottom, top);
  const yTicks = ticksOf(y.low, y.high, panel.y.log, 5);
  const left = Math.max(44, 10 + 7 * Math.max(...yTicks.map((at) => short(at).length)));
  const right = width - (panel.bars ? 48 : 12);
  const svg = draw("svg", box, { class: "plot", viewBox: `0 0 ${width} ${height}`,
    role: "img", tabindex: 0, "aria-label":
    `${panel.y.label} against ${panel.x.label}; arrow keys read the values` });
  const xAxis = names ? { ...panel.x, min: -0.6, max: names.length - 0.4 } : panel.x;
  const x = scaleOf(xAxis, points.map(([at]) => at), left, right);

  if (panel.bars) {
    const bars = scaleOf({ log: true, min: 0.7 * Math.min(...panel.bars.values),
      max: 12 * Math.max(...panel.bars.values) }, [], bottom, top);
    panel.bars.values.forEach((count, at) => draw("rect", svg, { class: "bar",
      x: x(at - 0.42), width: Math.max(x(at + 0.42) - x(at - 0.42), 1),
      y: bars(count), height: Math.max(bottom - bars(count), 0) }));
    for (const tick of ticksOf(Math.min(...panel.bars.values),
        Math.max(...panel.bars.values), true, 4)) {
      draw("text", svg, { x: right + 4, y: bars(tick) + 4 }, short(tick));
    }
    draw("text", svg, { x: width, y: 12, "text-anchor": "end" }, panel.bars.label);
  }
  for (const tick of yTicks) {
    draw("line", svg, { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
    draw("text", svg, { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick));
  }
  if (names) {
    const every = slanted ? Math.ceil(13 / room) : 1;
    names.forEach((name, at) => {
      if (at % every) return;
      const cut = name.length > 15 ? `${name.slice(0, 14)}\u2026` : name;
      draw("text", svg, slanted
        ? { "text-anchor": "end", transform: `translate(${x(at) + 4} ${bottom + 14}) rotate(-40)` }
        : { x: x(at), y: bottom + 16, "text-anchor": "middle" }, cut);
    });
  } else {
    for (const tick of ticksOf(x.low, x.high, panel.x.log, Math.max(3, width / 110))) {
      draw("text", svg, { x: x(tick), y: bottom + 16, "text-anchor": "middle" },
        short(tick));
    }
  }
  draw("text", svg, { x: (left + right) / 2, y: height - 5, "text-anchor": "middle" },
    panel.x.label);
  draw("text", svg, { x: 0, y: 12 }, panel.y.label);
  if (panel.diagonal) {
    draw("line", svg, { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) });
  }

  const seen = [];
  for (const one of known) {
    const { color, dash, width: pen } = styleOf(section, one);
    const at = one.points.map(([px, py]) => [x(px), y(py)]);
    if (panel.line) {
      const path = at.map((point) => point.map((c) => c.toFixed(1)).join(" "));
      const stds = one.points.map(([, , std]) => std ?? 0);
      if (stds.some(Boolean)) {
        const ends = (sign) => one.points.map(([px, py], i) =>
          `${x(px).toFixed(1)} ${y(py + sign * stds[i]).toFixed(1)}`);
        draw("path", svg, { d: `M${[...ends(1), ...ends(-1).reverse()].join("L")}Z`,
          fill: color, "fill-opacity": 0.14 });
      }
      draw("path", svg, { d: `M${path.join("L")}`, fill: "none", stroke: color,
        "stroke-width": pen, "stroke-dasharray": dash, "stroke-linejoin": "round" });
    }
    if (!panel.line || at.length <= 30) {
      for (const [cx, cy] of at) {
        draw("circle", svg, { cx, cy, r: panel.dot ?? 3, fill: color,
          "fill-opacity": panel.legend ? 0.6 : 1 });
      }
    }
    seen.push({ one, at });
    if (panel.named) {
      const [cx, cy] = at[0];
      const beyond = cx > (left + right) / 2;
      draw("text", svg, { x: cx + (beyond ? -8 : 8), y: cy + 4,
        "text-anchor": beyond ? "end" : "start" }, one.method);
    }
  }
  readValues(svg, panel, seen, height / width);
}

// Values under the pointer, or by arrow keys: along a line, and from line to line.
const tip = make("div", document.body, { class: "tip", role: "status", hidden: "" });

function readValues(svg, panel, seen, ratio) {
  if (!seen.length) return;
  const ring = draw("circle", svg, { class: "at", r: 5.5, visibility: "hidden" });
  let [line, point] = [0, 0];
  const tell = () => {
    const { one, at } = seen[line];
    const [px, py, std, text] = one.points[point];
    ring.setAttribute("cx", at[point][0]);
    ring.setAttribute("cy", at[point][1]);
    ring.setAttribute("visibility", "visible");
    const where = text ?? panel.x.texts?.[px] ??
      `${panel.x.label} ${panel.x.names?.[px] ?? short(px)}`;
    const spread = std == null ? "" : ` \u00b1 ${short(std)}`;
    tip.textContent = `${one.method ?? one.name}\n${where}` +
      (panel.silent ? "" : `\n${panel.y.label}: ${short(py)}${spread}`);
    tip.hidden = false;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const [left, top] = at[point].map((c) => c * scale);
    const widest = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${scrollX + Math.max(4, Math.min(box.left + left + 12, widest))}px`;
    tip.style.top = `${scrollY + box.top + top - tip.offsetHeight - 12}px`;
  };
  const leave = () => { tip.hidden = true; ring.setAttribute("visibility", "hidden"); };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [mx, my] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let nearest = Infinity;
    seen.forEach(({ at }, i) => at.forEach(([cx, cy], j) => {
      const distance = Math.hypot(cx - mx, cy - my);
      if (distance < nearest) [nearest, line, point] = [distance, i, j];
    }));
    tell();
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0],
      ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (ring.getAttribute("visibility") === "visible") {
      line = (line + step[0] + seen.length) % seen.length;
      const last = seen[line].at.length - 1;
      point = Math.max(0, Math.min(point + step[1], last));
    }
    tell();
  });
}

function show(figure) {
  if (!figure.offsetParent) return;  // folded away: drawn when it is opened
  const section = figure.closest("section");
  const chart = data.charts[figure.dataset.chart];
  all("img", figure).forEach((image) => { image.hidden = true; });
  let holder = figure.querySelector("div.panels");
  if (!holder) {
    holder = make("div", figure, { class: "panels" });
    figure.prepend(holder);
  }
  if (chart.least) holder.style.setProperty("--least", `${chart.least}px`);
  holder.replaceChildren();
  tip.hidden = true;
  const shown = chart.panels.filter((panel) => !section.off.has(panel.method));
  const boxes = shown.map(() => make("div", holder));  // all, before a width is read
  shown.forEach((panel, i) => drawPanel(section, panel, boxes[i]));
}

// ------------------------------------------------------------------------------- Start

for (const table of all("table")) {
  if (table.dataset.sortable !== undefined) makeSortable(table);
  addControls(table);
}
all("section").forEach(addToggles);
const charts = all("figure[data-chart]");
charts.forEach(show);
all("details").forEach((node) => node.addEventListener("toggle", () => {
  if (node.open) all("figure[data-chart]", node).forEach(show);
}));
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) { width = innerWidth; charts.forEach(show); }
});
document.documentElement.dataset.ready = "yes";
})();
