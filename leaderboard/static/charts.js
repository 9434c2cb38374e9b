
// ---- axes

const extent = values => {
  let low = Math.min(...values), high = Math.max(...values);
  if (!(high - low > 1e-9)) { low -= 0.05; high += 0.05; }
  return [low, high];
};
// The step between the ticks of an axis is 1, 2 or 5 times a power of ten.
const stepOf = ([low, high], count = 5) => {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find(factor => factor * power >= rough) ?? 10);
};
const ticks = ([low, high], step) => {
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
};
const widened = (range, step) => [Math.floor(range[0] / step + 1e-6) * step, Math.ceil(range[1] / step - 1e-6) * step];
const digits = step => Math.max(0, Math.ceil(-Math.log10(step) - 1e-6));
const asNumber = (value, step) => value.toFixed(digits(step));
const asPercent = (value, step) => (100 * value).toFixed(digits(100 * step)) + " %";
// Shorten names by their common prefix and then by their middle, because long names usually differ at the end.
function shortened(names, length) {
  const [first, ...others] = names, common = [...first].findIndex((c, i) => others.some(name => name[i] !== c));
  const cut = others.length && common > 0 ? Math.max(0, ...["+", "(", ", "].map(mark => first.lastIndexOf(mark, common - mark.length) + mark.length)) : 0;
  return new Map(names.map(name => {
    const rest = name.length > length && cut > 3 ? "…" + name.slice(cut) : name, end = Math.ceil(length * 0.6);
    return [name, rest.length > length ? rest.slice(0, length - end - 1) + "…" + rest.slice(-end) : rest];
  }));
}

// ---- marks: one color and dash per stack of the setting that is shown

const color = row => palette[setting.rows.indexOf(row) % palette.length];
const dash = row => dashes[Math.floor(setting.rows.indexOf(row) / palette.length) % dashes.length];

function chart(parent, title, xName, x, y, xFormat, yFormat) {
  const figure = element("figure", parent);
  element("figcaption", figure, title);
  const svg = element("svg", figure, "", { viewBox: "0 0 400 260", role: "img", "aria-label": title });
  const xStep = stepOf(x), yStep = stepOf(y), [low, high] = widened(y, yStep);
  const px = v => 56 + (v - x[0]) / (x[1] - x[0]) * 322, py = v => 222 - (v - low) / (high - low) * 208;
  for (const v of ticks([low, high], yStep)) {
    element("line", svg, "", { class: "grid", x1: 56, x2: 378, y1: py(v), y2: py(v) });
    element("text", svg, yFormat(v, yStep), { x: 51, y: py(v) + 4, "text-anchor": "end" });
  }
  for (const u of ticks(x, xStep)) element("text", svg, xFormat(u, xStep), { x: px(u), y: 238, "text-anchor": "middle" });
  element("text", svg, xName, { x: 217, y: 254, "text-anchor": "middle" });
  return { svg, px, py };
}
function line({ svg, px, py }, row, pairs) {
  const d = pairs.map(([u, v], i) => `${i ? "L" : "M"}${px(u).toFixed(1)} ${py(v).toFixed(1)}`).join("");
  const path = element("path", svg, "", { d, fill: "none", stroke: color(row), "stroke-width": 1.8, "stroke-dasharray": dash(row) });
  element("title", path, row.stack);
}
function dot({ svg, px, py }, row, u, v, hint, half = null) {
  if (half !== null) element("line", svg, "", { x1: px(u), x2: px(u), y1: py(Math.max(0, v - half)), y2: py(Math.min(1, v + half)), stroke: color(row) });
  element("title", element("circle", svg, "", { cx: px(u), cy: py(v), r: 4.5, fill: color(row) }), hint);
}

// ---- plots of the setting that is shown

function drawCurves(parent, title, name) {
  const rows = filteredRows().filter(row => row.curves[name].length > 1);
  if (!rows.length) return;
  const values = rows.flatMap(row => row.curves[name].map(point => point[1])), last = Math.max(...rows.map(row => row.epochs - 1));
  const plot = chart(parent, title, "epoch", [0, Math.max(1, last)], extent(values), asNumber, name === "noise_auroc" ? asNumber : asPercent);
  for (const row of rows) line(plot, row, row.curves[name]);
}
function drawRoc(parent) {
  const rows = filteredRows().filter(row => row.roc);
  if (!rows.length) return;
  const plot = chart(parent, "detection of incorrect labels (ROC curve)", "false positive rate", [0, 1], [0, 1], asPercent, asPercent);
  for (const row of rows) line(plot, row, row.roc.map((v, i) => [i / (row.roc.length - 1), v]));
}
function drawCost(parent) {
  const rows = filteredRows().filter(row => row[state.rule] !== null && row.wall_seconds !== null);
  if (!rows.length) return;
  const ends = rows.flatMap(row => [-1, 1].map(side => Math.min(1, Math.max(0, row[state.rule][0] + side * (row[state.rule][1] ?? 0)))));
  const top = Math.max(...rows.map(row => row.wall_seconds[0])) * 1.1;
  const plot = chart(parent, `${setting.metric} (${state.rule}) against cost`, "time of one run (s)", [0, top], extent(ends), asNumber, asPercent);
  for (const row of rows) {
    const hint = `${row.stack}: ${points(row[state.rule])}, ${fixed(1)(row.wall_seconds)} s`;
    dot(plot, row, row.wall_seconds[0], row[state.rule][0], hint, row[state.rule][1]);
  }
}
function drawRates(parent) {
  const family = summaryOf(state.setting).family, index = rules.indexOf(state.rule);
  const members = board.settings.filter(summary => summary.family === family && summary.rate !== null).sort((a, b) => a.rate - b.rate);
  if (new Set(members.map(summary => summary.rate)).size < 2) return;
  const lines = filteredRows().map(row =>
    // Settings in which the stack has other code are no points of its line.
    [row, members.filter(summary => summary.codes[row.stack] === row.code)
      .map(summary => [summary.rate, summary.scores[row.stack]?.[index]?.[0] ?? null]).filter(pair => pair[1] !== null)]);
  const values = lines.flatMap(([, pairs]) => pairs.map(pair => pair[1]));
  if (!values.length) return;
  const x = extent(members.map(summary => summary.rate));
  const plot = chart(parent, `${setting.metric} (${state.rule}) against noise rate`, "actual noise rate", x, extent(values), asPercent, asPercent);
  for (const [row, pairs] of lines) {
    line(plot, row, pairs);
    for (const [u, v] of pairs) dot(plot, row, u, v, `${row.stack}: ${percent(v)} at ${percent(u)}`);
  }
}
function drawIntervals(parent) {
  const rows = filteredRows().filter(row => row[state.rule] !== null).sort((a, b) => mean(b[state.rule]) - mean(a[state.rule]));
  if (!rows.length) return;
  const ends = rows.flatMap(row => {
    const s = row[state.rule];
    return [s[0], s[2] ?? s[0], s[3] ?? s[0], ...row.published.map(result => result[0] / 100)];
  });
  const range = extent(ends.map(v => Math.min(1, Math.max(0, v)))), step = stepOf(range, 2.5), [low, high] = widened(range, step);
  const names = shortened(rows.map(row => row.stack), 22);
  const figure = element("figure", parent), height = 22 * rows.length + 40;
  const title = `${setting.metric} (${state.rule}): means with 95 % intervals; published results as diamonds`;
  element("figcaption", figure, title);
  const svg = element("svg", figure, "", { viewBox: `0 0 400 ${height}`, role: "img", "aria-label": title });
  const px = v => 150 + (Math.min(high, Math.max(low, v)) - low) / (high - low) * 230;
  rows.forEach((row, i) => {
    const y = 14 + 22 * i, s = row[state.rule];
    element("line", svg, "", { class: "grid", x1: 150, x2: 380, y1: y, y2: y });
    element("title", element("text", svg, names.get(row.stack), { class: "name", x: 143, y: y + 4, "text-anchor": "end" }), row.stack);
    if (s[2] !== null) element("line", svg, "", { x1: px(s[2]), x2: px(s[3]), y1: y, y2: y, stroke: color(row), "stroke-width": 2 });
    element("title", element("circle", svg, "", { cx: px(s[0]), cy: y, r: 4.5, fill: color(row) }), `${row.stack}: ${points(s)}`);
    row.published.forEach(result => {
      const u = px(result[0] / 100), diamond = element("path", svg, "", { d: `M${u} ${y - 5}l5 5l-5 5l-5 -5z`, fill: "none", stroke: color(row) });
      element("title", diamond, `published: ${result[0]} ${result[2]}, ${result[3]}, ${result[4]}\n${result[5]}`);
    });
  });
  for (const v of ticks([low, high], step)) element("text", svg, asPercent(v, step), { x: px(v), y: height - 8, "text-anchor": "middle" });
}
function drawPlots() {
  const parent = byId("plots");
  parent.replaceChildren();
  drawIntervals(parent);
  drawCurves(parent, `test ${setting.metric}`, "test_score");
  drawCurves(parent, "memorized incorrect labels", "memorized_fraction");
  drawRates(parent);
  drawCost(parent);
  drawCurves(parent, "noise AUROC", "noise_auroc");
  drawRoc(parent);
}
// Critical-difference diagram (Demšar, 2006): stacks joined by a bar are not separated.
function drawDiagram(parent, ranks, difference, title) {
  const count = ranks.length, left = Math.ceil(count / 2), x = r => 250 + (r - 1) / Math.max(1, count - 1) * 340;
  const groups = [], names = shortened(ranks.map(([stack]) => stack), 30);
  for (let i = 0; i < count; i++) {
    let j = i;
    while (j + 1 < count && ranks[j + 1][1] - ranks[i][1] <= difference) j++;
    if (j > i && !groups.some(group => group[1] >= j)) groups.push([i, j]);
  }
  const top = 40 + 9 * groups.length, height = top + 20 * left + 16;
  const svg = element("svg", element("figure", parent, "", { class: "scroll" }), "", { viewBox: `0 0 840 ${height}`, role: "img", "aria-label": `Critical-difference diagram: ${title}` });
  svg.style.maxWidth = "67rem";
  svg.style.minWidth = "44rem";
  element("line", svg, "", { class: "grid", x1: x(1), x2: x(count), y1: 26, y2: 26 });
  for (let r = 1; r <= count; r++) element("text", svg, r, { x: x(r), y: 16, "text-anchor": "middle" });
  groups.forEach(([i, j], number) => element("line", svg, "", { class: "thick", x1: x(ranks[i][1]) - 4, x2: x(ranks[j][1]) + 4, y1: 36 + 9 * number, y2: 36 + 9 * number }));
  ranks.forEach(([stack, rank], i) => {
    const onLeft = i < left, y = top + 20 * (onLeft ? i : count - 1 - i) + 10, end = onLeft ? 242 : 598;
    element("path", svg, "", { class: "grid", fill: "none", d: `M${x(rank)} 26V${y}H${end}` });
    const label = element("text", svg, `${names.get(stack)} ${rank.toFixed(2)}`, { class: "name", x: onLeft ? end - 4 : end + 4, y: y + 4, "text-anchor": onLeft ? "end" : "start" });
    element("title", label, stack);
  });
}
