"use strict";
// All text that comes from runs goes through textContent or attributes of text; nothing is ever read as HTML.

const board = JSON.parse(document.getElementById("board").textContent);
const at = id => document.getElementById(id);
const rules = ["last", "last10", "noisy_val"];
const palette = ["#4477aa", "#ee6677", "#228833", "#b8a020", "#33a0c8", "#aa3377", "#bb7733", "#777777", "#44aa99", "#882255"];
const dashes = ["", "6 3", "2 3"];

function element(name, parent, content = "", attributes = {}) {
  const inSvg = name === "svg" || parent instanceof SVGElement;
  const made = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  made.textContent = content;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

// ---- state, kept in the address, so that a view can be linked to

const state = { view: "cell", cell: board.cells.length ? board.cells[0].key : "", rule: "last" };
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) if (given.has(key)) state[key] = given.get(key);
  if (!rules.includes(state.rule)) state.rule = "last";
  if (!board.cells.some(each => each.key === state.cell) && board.cells.length) state.cell = board.cells[0].key;
  if (!at(`view-${state.view}`)) state.view = "cell";
}
function go(changed) {
  location.hash = new URLSearchParams({ ...state, ...changed }).toString();
}

// ---- a cell

const summaryOf = key => board.cells.find(each => each.key === key);
const details = new Map();
function detailOf(key) {
  if (!details.has(key)) details.set(key, JSON.parse(at(`cell-${key}`).textContent));
  return details.get(key);
}
let cell = null, order = ["rank", 1];

const mean = s => s === null ? -Infinity : s[0];
const points = s => s === null ? "–" : (100 * s[0]).toFixed(1) + (s[1] === null ? "" : " ± " + (100 * s[1]).toFixed(1));
const interval = s => s === null || s[2] === null ? "" : `95 % interval ${(100 * s[2]).toFixed(1)} to ${(100 * s[3]).toFixed(1)}`;
const plain = digits => s => s === null ? "–" : s[0].toFixed(digits);
const published = row => row.published.map(p => `${p[0]}${p[1] === null ? "" : " ± " + p[1]} ${p[2]}, ${p[3]}`).join("; ");
const rankOf = row => cell.rules[state.rule].ranks[cell.rows.indexOf(row)];
const columns = [
  { key: "rank", first: 1, show: row => rankOf(row) ?? "–", value: row => rankOf(row) ?? Infinity },
  { key: "stack", text: true, first: 1, value: row => row.stack },
  ...["last", "last10", "noisy_val", "oracle"].map(key => (
    { key, show: row => points(row[key]), value: row => mean(row[key]), hint: row => interval(row[key]) })),
  { key: "gap", show: row => row.gap === null ? "–" : (100 * row.gap[0]).toFixed(1), value: row => mean(row.gap) },
  { key: "shifted", show: row => points(row.shifted), value: row => mean(row.shifted), hint: row => interval(row.shifted) },
  { key: "detection", show: row => plain(3)(row.detection), value: row => mean(row.detection) },
  { key: "outsiders", show: row => plain(3)(row.outsiders), value: row => mean(row.outsiders) },
  { key: "memorized_fraction", show: row => row.memorized_fraction === null ? "–" : (100 * row.memorized_fraction[0]).toFixed(0) + " %", value: row => mean(row.memorized_fraction) },
  { key: "ECE", show: row => plain(3)(row.calibration_error), value: row => mean(row.calibration_error) },
  { key: "seconds", first: 1, show: row => plain(1)(row.seconds), value: row => mean(row.seconds) },
  { key: "seeds", show: row => row.seeds, value: row => row.seeds },
  { key: "privileged", text: true, first: 1, show: row => row.privileged.join(", ") || "none", value: row => row.privileged.join() },
  { key: "verified", text: true, first: 1, show: row => row.verified, value: row => row.verified },
  { key: "published", text: true, first: 1, show: published, value: published, hint: row => [...new Set(row.published.map(p => p[5]))].join("\n") },
];
const optional = new Set(["shifted", "outsiders", "last10", "published", "detection", "memorized_fraction", "ECE", "noisy_val", "verified"]);
const colour = row => palette[cell.rows.indexOf(row) % palette.length];
const dash = row => dashes[Math.floor(cell.rows.indexOf(row) / palette.length) % dashes.length];

function kept(row) {
  const wanted = at("privileged").value;
  return row.stack.toLowerCase().includes(at("stack").value.toLowerCase().trim())
    && (wanted === "any" || (wanted === "none" ? !row.privileged.length : row.privileged.includes(wanted.slice(1))))
    && row.seeds >= (Number(at("seeds").value) || 0)
    && (at("cost").value === "" || (row.seconds !== null && row.seconds[0] <= Number(at("cost").value)));
}
const chosen = () => cell.rows.filter(kept);

function drawTable() {
  const head = at("head"), body = at("body"), focused = document.activeElement?.dataset?.sort;
  head.replaceChildren(); body.replaceChildren();
  const shown = columns.filter(c => !optional.has(c.key) || cell.rows.some(row => !["–", "", "measured here"].includes(c.show(row))));
  for (const column of shown) {
    const grayed = column.key === "oracle" ? " oracle" : "";
    const th = element("th", head, "", { scope: "col", class: (column.text ? "text" : "") + grayed });
    if (order[0] === column.key) th.setAttribute("aria-sort", order[1] > 0 ? "ascending" : "descending");
    const button = element("button", th, column.key, { type: "button", "data-sort": column.key });
    button.onclick = () => { order = [column.key, order[0] === column.key ? -order[1] : column.first ?? -1]; drawTable(); };
    if (focused === column.key) button.focus();
  }
  const by = columns.find(c => c.key === order[0]) ?? columns[0], place = new Map(cell.rows.map((row, i) => [row, i]));
  const compared = (a, b) => { const x = by.value(a), y = by.value(b); return (x < y ? -1 : x > y ? 1 : 0) * order[1]; };
  const score = row => -mean(row[state.rule]);
  const rows = chosen().sort((a, b) => compared(a, b) || score(a) - score(b) || place.get(a) - place.get(b));
  let before = null;
  for (const row of rows) {
    const begins = by.key === "rank" && before !== null && rankOf(row) !== before;
    before = rankOf(row);
    const tr = element("tr", body, "", { class: begins ? "row group" : "row" });
    for (const column of shown) {
      if (column.key === "stack") { drawStack(tr, row, shown.length); continue; }
      const kind = (column.text ? "text " : "") + (column.key === "published" ? "wrap " : "") + (column.key === "oracle" ? "oracle" : "");
      const td = element("td", tr, column.show(row), { class: kind });
      const hint = column.hint?.(row);
      if (hint) td.title = hint;
    }
  }
  at("shown").textContent = rows.length === cell.rows.length ? `${rows.length} stacks` : `${rows.length} of ${cell.rows.length} stacks`;
}
function drawStack(tr, row, width) {
  const td = element("td", tr, "", { class: "text stack" });
  const button = element("button", td, "", { type: "button", "aria-expanded": "false", title: "Show its runs" });
  element("span", button, "", { class: "swatch" }).style.background = colour(row);
  element("span", button, row.stack);
  button.onclick = () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) { tr.nextSibling.remove(); return; }
    const more = element("tr", document.createElement("tbody"), "", { class: "runs" });
    const list = element("td", more, "", { colspan: width, class: "text" });
    for (const [seed, run, last, last10, noisyVal, oracle, note] of row.runs) {
      const line = element("div", list);
      const told = [["last", last], ["last10", last10], ["noisy_val", noisyVal], ["oracle", oracle]].filter(each => each[1] !== null);
      element("span", line, `seed ${seed}: ${told.map(([rule, value]) => `${rule} ${(100 * value).toFixed(2)}`).join(", ")} `);
      if (board.runs && /^[0-9a-f]{32}$/.test(run)) {
        element("a", line, "run", { href: board.runs + run });
        element("span", line, " ");
        element("a", line, "artinames", { href: `${board.runs}${run}/artinames` });
      }
      if (note) element("span", line, ` ${note}`, { class: "note" });
    }
    tr.after(more);
  };
}

// ---- pictures

const extent = values => {
  let low = Math.min(...values), high = Math.max(...values);
  if (!(high - low > 1e-9)) { low -= 0.05; high += 0.05; }
  return [low, high];
};
const percent = value => (100 * value).toFixed(Math.abs(100 * value) < 10 ? 1 : 0) + " %";
// Of an axis: the step between its marks, which is 1, 2 or 5 times a power of ten, and the marks inside.
const stepOf = ([low, high]) => {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find(each => each * power >= rough) ?? 10);
};
const marks = ([low, high], step) => {
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
};
const widened = (range, step) => [Math.floor(range[0] / step + 1e-6) * step, Math.ceil(range[1] / step - 1e-6) * step];
const digits = step => Math.max(0, Math.ceil(-Math.log10(step) - 1e-6));
const asNumber = (value, step) => value.toFixed(digits(step));
const asPercent = (value, step) => (100 * value).toFixed(digits(100 * step)) + " %";
// Names that fit: without what all begin with, and without their middle, for it is the end that tells long ones apart.
function shortened(names, length) {
  const [first, ...others] = names, common = [...first].findIndex((c, i) => others.some(each => each[i] !== c));
  const cut = others.length && common > 0 ? Math.max(0, ...["+", "(", ", "].map(each => first.lastIndexOf(each, common - each.length) + each.length)) : 0;
  return new Map(names.map(name => {
    const rest = name.length > length && cut > 3 ? "…" + name.slice(cut) : name, end = Math.ceil(length * 0.6);
    return [name, rest.length > length ? rest.slice(0, length - end - 1) + "…" + rest.slice(-end) : rest];
  }));
}

function chart(parent, title, xName, x, y, xFormat, yFormat) {
  const figure = element("figure", parent);
  element("figcaption", figure, title);
  const svg = element("svg", figure, "", { viewBox: "0 0 400 260", role: "img", "aria-label": title });
  const xStep = stepOf(x), yStep = stepOf(y), [low, high] = widened(y, yStep);
  const px = v => 56 + (v - x[0]) / (x[1] - x[0]) * 322, py = v => 222 - (v - low) / (high - low) * 208;
  for (const v of marks([low, high], yStep)) {
    element("line", svg, "", { class: "grid", x1: 56, x2: 378, y1: py(v), y2: py(v) });
    element("text", svg, yFormat(v, yStep), { x: 51, y: py(v) + 4, "text-anchor": "end" });
  }
  for (const u of marks(x, xStep)) element("text", svg, xFormat(u, xStep), { x: px(u), y: 238, "text-anchor": "middle" });
  element("text", svg, xName, { x: 217, y: 254, "text-anchor": "middle" });
  return { svg, px, py };
}
function line({ svg, px, py }, row, pairs) {
  const path = pairs.map(([u, v], i) => `${i ? "L" : "M"}${px(u).toFixed(1)} ${py(v).toFixed(1)}`).join("");
  const made = element("path", svg, "", { d: path, fill: "none", stroke: colour(row), "stroke-width": 1.8, "stroke-dasharray": dash(row) });
  element("title", made, row.stack);
}
function dot({ svg, px, py }, row, u, v, told, half = null) {
  if (half !== null) element("line", svg, "", { x1: px(u), x2: px(u), y1: py(Math.max(0, v - half)), y2: py(Math.min(1, v + half)), stroke: colour(row) });
  element("title", element("circle", svg, "", { cx: px(u), cy: py(v), r: 4.5, fill: colour(row) }), told);
}
function drawCurves(parent, title, name) {
  const rows = chosen().filter(row => row.curves[name].length > 1);
  if (!rows.length) return;
  const values = rows.flatMap(row => row.curves[name].map(point => point[1])), last = Math.max(...rows.map(row => row.epochs - 1));
  const area = name === "noise_auroc";
  const drawn = chart(parent, title, "epoch", [0, Math.max(1, last)], extent(values), asNumber, area ? asNumber : asPercent);
  for (const row of rows) line(drawn, row, row.curves[name]);
}
function drawRoc(parent) {
  const rows = chosen().filter(row => row.roc);
  if (!rows.length) return;
  const drawn = chart(parent, "detection of wrong labels (ROC)", "right labels suspected", [0, 1], [0, 1], asPercent, asPercent);
  for (const row of rows) line(drawn, row, row.roc.map((v, i) => [i / (row.roc.length - 1), v]));
}
function drawCost(parent) {
  const rows = chosen().filter(row => row[state.rule] !== null && row.seconds !== null);
  if (!rows.length) return;
  const ends = rows.flatMap(row => [-1, 1].map(side => Math.min(1, Math.max(0, row[state.rule][0] + side * (row[state.rule][1] ?? 0)))));
  const top = Math.max(...rows.map(row => row.seconds[0])) * 1.1;
  const drawn = chart(parent, `${cell.metric} (${state.rule}) against cost`, "seconds of one run", [0, top], extent(ends), asNumber, asPercent);
  for (const row of rows) {
    const told = `${row.stack}: ${points(row[state.rule])}, ${plain(1)(row.seconds)} s`;
    dot(drawn, row, row.seconds[0], row[state.rule][0], told, row[state.rule][1]);
  }
}
function drawRates(parent) {
  const family = summaryOf(state.cell).family, place = rules.indexOf(state.rule);
  const cells = board.cells.filter(each => each.family === family && each.rate !== null).sort((a, b) => a.rate - b.rate);
  if (new Set(cells.map(each => each.rate)).size < 2) return;
  const lines = chosen().map(row => [row, cells.map(each => [each.rate, each.scores[row.stack]?.[place]?.[0] ?? null]).filter(each => each[1] !== null)]);
  const values = lines.flatMap(([, pairs]) => pairs.map(each => each[1]));
  if (!values.length) return;
  const drawn = chart(parent, `${cell.metric} (${state.rule}) against noise rate`, "realised noise rate", extent(cells.map(each => each.rate)), extent(values), asPercent, asPercent);
  for (const [row, pairs] of lines) {
    line(drawn, row, pairs);
    for (const [u, v] of pairs) dot(drawn, row, u, v, `${row.stack}: ${percent(v)} at ${percent(u)}`);
  }
}
function drawIntervals(parent) {
  const rows = chosen().filter(row => row[state.rule] !== null).sort((a, b) => mean(b[state.rule]) - mean(a[state.rule]));
  if (!rows.length) return;
  const others = row => row.published.map(each => each[0] / 100);
  const ends = rows.flatMap(row => { const s = row[state.rule]; return [s[0], s[2] ?? s[0], s[3] ?? s[0], ...others(row)]; });
  const range = extent(ends.map(v => Math.min(1, Math.max(0, v)))), step = 2 * stepOf(range), [low, high] = widened(range, step);
  const names = shortened(rows.map(row => row.stack), 22);
  const figure = element("figure", parent), height = 22 * rows.length + 40;
  const title = `${cell.metric} (${state.rule}): means, 95 % intervals, published values as diamonds`;
  element("figcaption", figure, title);
  const svg = element("svg", figure, "", { viewBox: `0 0 400 ${height}`, role: "img", "aria-label": title });
  const px = v => 150 + (Math.min(high, Math.max(low, v)) - low) / (high - low) * 230;
  rows.forEach((row, i) => {
    const y = 14 + 22 * i, s = row[state.rule];
    element("line", svg, "", { class: "grid", x1: 150, x2: 380, y1: y, y2: y });
    element("title", element("text", svg, names.get(row.stack), { class: "name", x: 143, y: y + 4, "text-anchor": "end" }), row.stack);
    if (s[2] !== null) element("line", svg, "", { x1: px(s[2]), x2: px(s[3]), y1: y, y2: y, stroke: colour(row), "stroke-width": 2 });
    element("title", element("circle", svg, "", { cx: px(s[0]), cy: y, r: 4.5, fill: colour(row) }), `${row.stack}: ${points(s)}`);
    row.published.forEach(each => {
      const u = px(each[0] / 100), mark = element("path", svg, "", { d: `M${u} ${y - 5}l5 5l-5 5l-5 -5z`, fill: "none", stroke: colour(row) });
      element("title", mark, `published: ${each[0]} ${each[2]}, ${each[3]}, ${each[4]}\n${each[5]}`);
    });
  });
  for (const v of marks([low, high], step)) element("text", svg, asPercent(v, step), { x: px(v), y: height - 8, "text-anchor": "middle" });
}
function drawPictures() {
  const parent = at("plots");
  parent.replaceChildren();
  drawIntervals(parent);
  drawCurves(parent, `test ${cell.metric}`, "test_score");
  drawCurves(parent, "wrong labels memorised", "memorized_fraction");
  drawRates(parent);
  drawCost(parent);
  drawCurves(parent, "detection AUROC", "noise_auroc");
  drawRoc(parent);
}

// ---- two stacks

function drawPair() {
  const a = Number(at("first").value), b = Number(at("second").value), told = at("pair");
  const pair = cell.rules[state.rule].pairs.find(each => (each[0] === a && each[1] === b) || (each[0] === b && each[1] === a));
  if (a === b || !pair) {
    told.textContent = a === b ? "Choose two stacks." : "These two share fewer than two seeds.";
    return;
  }
  const sign = pair[0] === a ? 1 : -1, difference = 100 * sign * pair[2];
  const ends = pair[3] === null ? null : [100 * sign * pair[3], 100 * sign * pair[4]].sort((x, y) => x - y);
  const p = value => value < 0.001 ? "< 0.001" : value.toFixed(3);
  const more = pair[8] === 0 ? "The seeds separate them."
    : pair[8] === null ? "Not separated; if the difference is what it seems, more than a thousand further seeds would be needed."
    : `Not separated; if the difference is what it seems, ${pair[8]} more seeds would separate them with 80 % probability.`;
  told.textContent = `${cell.rows[a].stack} minus ${cell.rows[b].stack}, by ${state.rule}: ${difference.toFixed(2)} points` +
    (ends ? ` (95 % of the paired bootstrap: ${ends[0].toFixed(2)} to ${ends[1].toFixed(2)})` : "") +
    `. p = ${p(pair[5])} by the test that ranks, adjusted for all pairs; for this pair alone ${p(pair[6])} by permutation, ` +
    `${p(pair[7])} by signed ranks. ${more}`;
}

// ---- views

function fill(select, options, value) {
  select.replaceChildren();
  for (const [key, name] of options) element("option", select, name, { value: key });
  select.value = value;
}
const told = each => `${each.title}  (${each.network}, ${each.epochs} epochs)`;
function listCells() {
  const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = board.cells.filter(each => each.key === state.cell || words.every(word => told(each).toLowerCase().includes(word)));
  fill(at("cells"), found.map(each => [each.key, told(each)]), state.cell);
}
function about(summary) {
  const budget = cell.budget, rate = summary.rate === null ? "Nobody knows the noise rate" : `Realised noise rate ${percent(summary.rate)}`;
  const elsewhere = board.cells.filter(each => each.labels === summary.labels && each.key !== summary.key);
  const place = at("about");
  place.textContent = `${cell.convention}. ${rate}. Label set ${summary.labels.slice(0, 16)}; budget ${summary.budget}: ${budget.network}, ${budget.epochs} epochs, ` +
    `batches of ${budget.batch_size}, ${budget.optimizer}, learning rate ${budget.learning_rate} (${budget.lr_schedule}), augmentation ${budget.augmentation}.`;
  if (elsewhere.length) element("span", place, " The same labels under another budget, in a table of their own:");
  for (const each of elsewhere) {
    element("span", place, " ");
    element("a", place, `${each.network}, ${each.epochs} epochs`, { href: `#${new URLSearchParams({ ...state, cell: each.key })}` });
  }
}
let drawnCell = "";
function drawCell() {
  if (!board.cells.length) {
    at("about").textContent = "No finished runs yet. Make some with: noisybench bench quickstart";
    return;
  }
  const summary = summaryOf(state.cell), fresh = drawnCell !== state.cell;
  cell = detailOf(state.cell);
  drawnCell = state.cell;
  listCells();
  at("rule").value = state.rule;
  if (fresh) {
    const names = [...new Set(cell.rows.flatMap(row => row.privileged))].sort();
    fill(at("privileged"), [["any", "any"], ["none", "none"], ...names.map(each => ["=" + each, each])], "any");
    const stacks = cell.rows.map((row, i) => [i, row.stack]);
    fill(at("first"), stacks, 0);
    fill(at("second"), stacks, Math.min(1, stacks.length - 1));
  }
  about(summary);
  const warnings = at("warnings");
  warnings.replaceChildren();
  for (const each of cell.warnings) element("p", warnings, each, { class: "warning" });
  at("footnote").textContent = cell.rules[state.rule].footnote;
  drawTable(); drawPair(); drawPictures();
}
function drawOverall() {
  const view = at("view-overall");
  view.replaceChildren();
  element("p", view, "Stacks over all cells that share one budget and have the same stacks: average ranks (1 is best in every cell), Friedman's test that " +
    "all are alike, and Nemenyi's critical difference at 5 %. Stacks joined by a bar are not separated.", { class: "note" });
  if (!board.overall.length) element("p", view, "No two cells have a budget and at least three stacks in common yet.");
  for (const group of board.overall) {
    const rule = group.rules[state.rule] ? state.rule : Object.keys(group.rules)[0], { ranks, p, difference } = group.rules[rule];
    element("h2", view, group.title);
    element("p", view, `${group.cells.length} cells, by ${rule}. Friedman: p = ${p < 0.001 ? "< 0.001" : p.toFixed(3)}. Critical difference: ${difference.toFixed(2)} ranks.`);
    drawDiagram(view, Object.entries(ranks), difference, group.title);
    const list = element("p", view, "Cells: ", { class: "note" });
    group.cells.forEach((key, i) => {
      element("a", list, summaryOf(key).title, { href: `#${new URLSearchParams({ ...state, view: "cell", cell: key })}` });
      if (i + 1 < group.cells.length) element("span", list, "; ");
    });
  }
  drawDraws(view);
}
function drawDraws(view) {
  for (const group of board.draws) {
    const rule = group.rules[state.rule] ? state.rule : Object.keys(group.rules)[0], { rows, detectable } = group.rules[rule];
    element("h2", view, `${group.title}, over ${group.cells.length} draws of the noise`);
    element("p", view, `Each draw is one block: the mean over its seeds, by ${rule}. Ranks as in a cell` +
      (detectable === null ? "." : `; smallest difference that these draws show with 80 % probability: ${(100 * detectable).toFixed(1)} points.`), { class: "note" });
    tableOf(view, ["rank", "stack", rule, "95 % interval over draws"], rows.map(([rank, stack, s]) => [rank, stack, points(s), interval(s).replace("95 % interval ", "")]));
  }
}
function drawDiagram(parent, ranks, difference, title) {
  const count = ranks.length, left = Math.ceil(count / 2), x = r => 250 + (r - 1) / Math.max(1, count - 1) * 340;
  const groups = [], names = shortened(ranks.map(each => each[0]), 30);
  for (let i = 0; i < count; i++) {
    let j = i;
    while (j + 1 < count && ranks[j + 1][1] - ranks[i][1] <= difference) j++;
    if (j > i && !groups.some(each => each[1] >= j)) groups.push([i, j]);
  }
  const top = 40 + 9 * groups.length, height = top + 20 * left + 16;
  const svg = element("svg", element("figure", parent, "", { class: "scroll" }), "", { viewBox: `0 0 840 ${height}`, role: "img", "aria-label": `Critical-difference diagram: ${title}` });
  svg.style.maxWidth = "67rem";
  svg.style.minWidth = "44rem";
  element("line", svg, "", { class: "grid", x1: x(1), x2: x(count), y1: 26, y2: 26 });
  for (let r = 1; r <= count; r++) element("text", svg, r, { x: x(r), y: 16, "text-anchor": "middle" });
  groups.forEach(([i, j], place) => element("line", svg, "", { class: "thick", x1: x(ranks[i][1]) - 4, x2: x(ranks[j][1]) + 4, y1: 36 + 9 * place, y2: 36 + 9 * place }));
  ranks.forEach(([stack, rank], i) => {
    const onLeft = i < left, y = top + 20 * (onLeft ? i : count - 1 - i) + 10, end = onLeft ? 242 : 598;
    element("path", svg, "", { class: "grid", fill: "none", d: `M${x(rank)} 26V${y}H${end}` });
    const text = element("text", svg, `${names.get(stack)} ${rank.toFixed(2)}`, { class: "name", x: onLeft ? end - 4 : end + 4, y: y + 4, "text-anchor": onLeft ? "end" : "start" });
    element("title", text, stack);
  });
}
function tableOf(view, head, rows) {
  const table = element("table", element("div", view, "", { class: "scroll" })), top = element("tr", element("thead", table));
  for (const each of head) element("th", top, each, { class: "text", scope: "col" });
  const body = element("tbody", table);
  for (const row of rows) {
    const tr = element("tr", body);
    for (const each of row) element("td", tr, each, { class: "text wrap" });
  }
}
function drawPublished() {
  const view = at("view-published"), rows = [];
  view.replaceChildren();
  element("p", view, "Published values beside ours for the same data and noise. Protocols and networks often differ: read both before comparing.", { class: "note" });
  for (const each of board.cells.filter(each => each.published)) {
    for (const row of detailOf(each.key).rows) {
      for (const p of row.published) rows.push([each.title, row.stack, `${p[0]}${p[1] === null ? "" : " ± " + p[1]}`, `${p[2]}, ${p[3]}`, `${points(row.last)} last; ${points(row.oracle)} oracle`, `${each.network}, ${each.epochs} epochs`, p[5]]);
    }
  }
  if (rows.length) tableOf(view, ["cell", "stack", "published", "protocol, network", "ours", "our budget", "source"], rows);
  else element("p", view, "No cell here is one that papers report: they use the whole of CIFAR, or whole sets of crawled images.");
  element("h2", view, "Reproduction ledger");
  const [head, ...lines] = board.ledger, last = head.length - 1, counts = new Map();
  for (const line of lines) counts.set(line[last], (counts.get(line[last]) ?? 0) + 1);
  element("p", view, "Every published number of a method that is here, beside what was measured on the same data, noise, network and protocol. " +
    `Ours: mean ± standard deviation (seeds). Difference in standard deviations. ${[...counts].map(([status, count]) => `${count} ${status}`).join(", ")}.`, { class: "note" });
  const bar = element("div", view, "", { class: "bar" }), find = element("input", element("label", bar, "Find "), "", { type: "search", placeholder: "method, data, status …" });
  const place = element("div", view);
  const list = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    place.replaceChildren();
    tableOf(place, head, lines.filter(line => words.every(word => line.join(" ").toLowerCase().includes(word))));
  };
  find.oninput = list;
  list();
}
function drawLeft() {
  const view = at("view-left");
  view.replaceChildren();
  element("p", view, "What is in no table, or is not ranked there.", { class: "note" });
  if (board.left_out.length) tableOf(view, ["what", "why"], board.left_out.map(each => [each.what, each.why]));
  else element("p", view, "Nothing was left out.");
  element("p", view, "Trials of searches are never shown: only the final runs of a search are ranked, with seeds that no trial has used.", { class: "note" });
}
function draw() {
  readAddress();
  for (const each of document.querySelectorAll("main > section")) each.hidden = each.id !== `view-${state.view}`;
  for (const each of document.querySelectorAll("nav a")) {
    const view = new URLSearchParams(each.getAttribute("href").slice(1)).get("view");
    each.href = `#${new URLSearchParams({ ...state, view })}`;
    if (view === state.view) each.setAttribute("aria-current", "page"); else each.removeAttribute("aria-current");
  }
  ({ cell: drawCell, overall: drawOverall, published: drawPublished, left: drawLeft, reading: () => {} })[state.view]();
}

fill(at("rule"), rules.map(each => [each, each]), state.rule);
at("cells").onchange = () => { order = ["rank", 1]; go({ cell: at("cells").value }); };
at("rule").onchange = () => go({ rule: at("rule").value });
at("find").oninput = listCells;
for (const id of ["stack", "privileged", "seeds", "cost"]) at(id).oninput = () => { drawTable(); drawPictures(); };
at("first").onchange = at("second").onchange = drawPair;
at("theme").onclick = () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
};
document.querySelector(".skip").onclick = event => { event.preventDefault(); at("table").querySelector("button")?.focus(); };
addEventListener("hashchange", draw);
// The cells' data follow this script, so the first drawing waits for them.
addEventListener("DOMContentLoaded", draw);
