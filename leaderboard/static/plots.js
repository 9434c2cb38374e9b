
// ---- plots of the setting that is shown

const isOpen = row => row.privileged.length > 0;
const between = ([, , low, high], show) => low === null ? "" : ` (${show(low)} to ${show(high)})`;
const inPercent = value => fixed(100 * value, 1) + " %";

// The range in which curves differ once the first fifth of training is over, unless it is nearly the whole range.
function zoomOf(series, whole) {
  const last = Math.max(...series.flatMap(({ points }) => points.map(([epoch]) => epoch)));
  const range = fractions(series.flatMap(({ points }) => points.filter(([epoch]) => epoch >= last / 5).map(point => point[1])));
  return range[1] - range[0] < 0.8 * (whole[1] - whole[0]) ? range : null;
}
function drawCurves(parent, title, name) {
  const rows = filteredRows().filter(row => row.curves[name].length > 1);
  if (!rows.length) return;
  const isScore = name === "noise_auroc", show = isScore ? value => fixed(value, 3) : inPercent;
  const series = rows.map(row => ({
    stack: row.stack, isOpen: isOpen(row),
    points: row.curves[name].map(([epoch, value, low = null, high = null]) =>
      [epoch, value, low, high, `${shortName(row.stack)}: ${show(value)}${between([, , low, high], show)} at epoch ${epoch}`]),
  }));
  const y = fractions(series.flatMap(({ points }) => points.flatMap(([, value, low, high]) => [value, low ?? value, high ?? value])));
  const last = Math.max(1, ...rows.map(row => row.epochs - 1)), format = isScore ? asNumber : asPercent;
  lineChart(parent, title, { series, xName: "epoch", x: [0, last], y, zoom: zoomOf(series, y), xFormat: asNumber, yFormat: format, summary: "Bands: smallest to largest over seeds" });
}
function drawRoc(parent) {
  const rows = filteredRows().filter(row => row.roc);
  if (!rows.length) return;
  const series = rows.map(row => ({
    stack: row.stack, isOpen: isOpen(row),
    points: row.roc.map((rate, i) => [i / (row.roc.length - 1), rate, null, null, `${shortName(row.stack)}: ${inPercent(rate)} found at ${inPercent(i / (row.roc.length - 1))} false positives`]),
  }));
  lineChart(parent, "detection of incorrect labels (ROC curve)", { series, xName: "false positive rate", x: [0, 1], y: [0, 1], xFormat: asPercent, yFormat: asPercent });
}
function drawCost(parent) {
  const rows = filteredRows().filter(row => row[state.rule] !== null && row.wall_seconds !== null);
  if (!rows.length) return;
  const series = rows.map(row => {
    const [score, , low, high] = row[state.rule], seconds = row.wall_seconds[0];
    return { stack: row.stack, isOpen: isOpen(row), points: [[seconds, score, low, high, `${shortName(row.stack)}: ${inPercent(score)}${between([, , low, high], inPercent)}, ${fixed(seconds, 1)} s`]] };
  });
  const whole = fractions(series.flatMap(({ points: [[, score, low, high]] }) => [score, low ?? score, high ?? score]));
  const means = fractions(series.map(({ points }) => points[0][1])), top = Math.max(...rows.map(row => row.wall_seconds[0])) * 1.08;
  lineChart(parent, `${setting.metric} (${state.rule}) against cost`, {
    series, lines: false, xName: "time of one run (s)", x: [0, top], y: whole, zoom: means[1] - means[0] < 0.8 * (whole[1] - whole[0]) ? means : null, xFormat: asNumber, yFormat: asPercent,
  });
}
function drawRates(parent) {
  const family = summaryOf(state.setting).family, index = rules.indexOf(state.rule);
  const members = board.settings.filter(summary => summary.family === family && summary.rate !== null).sort((a, b) => a.rate - b.rate);
  if (new Set(members.map(summary => summary.rate)).size < 2) return;
  const series = filteredRows().map(row => ({
    stack: row.stack, isOpen: isOpen(row),
    // Settings in which the stack has other code are no points of its line.
    points: members.filter(summary => summary.codes[row.stack] === row.code && summary.scores[row.stack]?.[index]).map(summary => {
      const [score, , low, high] = summary.scores[row.stack][index];
      return [summary.rate, score, low, high, `${shortName(row.stack)}: ${inPercent(score)}${between([, , low, high], inPercent)} at a noise rate of ${inPercent(summary.rate)}`];
    }),
  })).filter(({ points }) => points.length);
  if (!series.length) return;
  const y = fractions(series.flatMap(({ points }) => points.map(point => point[1])));
  lineChart(parent, `${setting.metric} (${state.rule}) against noise rate`, { series, xName: "actual noise rate", x: extent(members.map(summary => summary.rate)), y, xFormat: asPercent, yFormat: asPercent });
}
function drawIntervals(parent) {
  const rows = filteredRows().filter(row => row[state.rule] !== null).sort((a, b) => mean(b[state.rule]) - mean(a[state.rule]));
  if (!rows.length) return;
  const ends = rows.flatMap(row => {
    const [score, , low, high] = row[state.rule];
    return [score, low ?? score, high ?? score, ...row.published.map(result => Math.min(1, Math.max(0, result[0] / 100)))];
  });
  const title = `${setting.metric} (${state.rule}): means with 95 % intervals` + (rows.some(row => row.published.length) ? "; published results as gray diamonds" : "");
  figureOf(parent, title, (svg, width) => {
    const length = width < 420 ? 18 : 28, names = shortened(rows.map(row => shortName(row.stack)), length), left = Math.min(0.45 * width, 6.4 * Math.max(...[...names.values()].map(name => name.length)) + 16);
    const range = fractions(ends), step = stepOf(range, (width - left) / 70), height = 22 * rows.length + 34, px = v => left + (v - range[0]) / (range[1] - range[0]) * (width - left - 12);
    for (const v of ticks(range, step)) {
      element("line", svg, "", { x1: px(v), x2: px(v), y1: 4, y2: height - 26, stroke: "var(--line)" });
      element("text", svg, asPercent(v, step), { x: px(v), y: height - 8, "text-anchor": "middle" });
    }
    return { height, series: rows.map((row, i) => drawInterval(svg, row, names.get(shortName(row.stack)), 15 + 22 * i, left, px)) };
  });
}
function drawInterval(svg, row, name, y, left, px) {
  const node = element("g", svg), [score, , low, high] = row[state.rule], { color } = styleOf(row.stack);
  element("title", element("text", node, name, { class: "name", x: left - 10, y: y + 4, "text-anchor": "end" }), row.stack);
  if (low !== null) element("line", node, "", { x1: px(low), x2: px(high), y1: y, y2: y, stroke: color, "stroke-width": 2 });
  const published = row.published.map(([value, deviation, protocol, architecture]) => {
    const u = px(Math.min(1, Math.max(0, value / 100)));
    element("path", node, "", { d: `M${u} ${y - 5}l5 5l-5 5l-5 -5z`, fill: "var(--back)", stroke: "var(--gray)", "stroke-width": 1.3 });
    return { x: u, y, text: `${shortName(row.stack)}: published ${value}${deviation === null ? "" : ` ± ${deviation}`} %, ${protocol}, ${architecture}` };
  });
  drawMark(node, row.stack, px(score), y, 5, isOpen(row));
  return { node, points: [{ x: px(score), y, text: `${shortName(row.stack)}: ${inPercent(score)}${between([, , low, high], inPercent)}` }, ...published] };
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
