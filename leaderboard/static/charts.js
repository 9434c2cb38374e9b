
// ---- axes

const extent = values => {
  let low = Math.min(...values), high = Math.max(...values);
  if (!(high - low > 1e-9)) { low -= 0.05; high += 0.05; }
  return [low, high];
};
// Fractions end at 0 and 1.
const fractions = values => {
  const [low, high] = extent(values), room = 0.04 * (high - low);
  return [Math.max(0, low - room), Math.min(1, high + room)];
};
// The step between the ticks of an axis is 1, 2 or 5 times a power of ten.
const stepOf = ([low, high], count = 5) => {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find(factor => factor * power >= rough * 0.999) ?? 10);
};
const ticks = ([low, high], step) => {
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
};
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

// ---- figures: drawn at the width that they have, again when it changes, and read by pointer and keyboard

const fullRange = new Set();  // titles of the figures that are not zoomed
const resized = new ResizeObserver(entries => entries.forEach(({ target, contentRect }) => {
  if (contentRect.width && Math.abs(contentRect.width - target.drawnWidth) > 20) target.redraw();
}));

// `draw(svg, width, zoomed)` draws into the svg and returns its height and what can be read: for each series its node and points {x, y, text}.
function figureOf(parent, title, draw, { zooms = false, summary = "" } = {}) {
  const figure = element("figure", parent), caption = element("figcaption", figure, title), readout = element("output", figure, "", { class: "readout" });
  const label = [title, summary, "Arrow keys read the values."].filter(Boolean).join(". ");
  if (zooms) {
    const button = element("button", caption, "", { type: "button", class: "tool zoom" });
    const say = () => { button.textContent = fullRange.has(title) ? "Zoom in" : "Full range"; };
    button.onclick = () => { if (!fullRange.delete(title)) fullRange.add(title); say(); figure.redraw(); };
    say();
  }
  figure.redraw = () => {
    const old = figure.querySelector("svg.chart"), isFocused = old !== null && old === document.activeElement;
    figure.drawnWidth = figure.clientWidth || 420;
    const svg = element("svg", figure, "", { class: "chart", role: "application", "aria-roledescription": "chart", "aria-label": label, tabindex: 0 });
    const width = Math.max(300, figure.drawnWidth), { height, series } = draw(svg, width, zooms && !fullRange.has(title));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    old?.remove();
    readable(svg, readout, series);
    if (isFocused) svg.focus();
  };
  figure.redraw();
  resized.observe(figure);
  return figure;
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
const closest = (points, x) => points.reduce((best, point, k) => Math.abs(point.x - x) < Math.abs(points[best].x - x) ? k : best, 0);
// Show the value of the point that is nearest to the pointer, or that the arrow keys have come to, and fade the other series.
function readable(svg, readout, series) {
  const filled = series.filter(({ points }) => points.length), hint = "\u00a0";
  if (!filled.length) return;
  let chosen = null;
  const ring = element("circle", svg, "", { class: "ring", r: 7, fill: "none", stroke: "var(--text)", "stroke-width": 1.5, visibility: "hidden" });
  const choose = (i, k) => {
    chosen = i === null ? null : [i, k];
    filled.forEach(({ node }, number) => node.classList.toggle("faded", i !== null && number !== i));
    readout.textContent = i === null ? hint : filled[i].points[k].text;
    ring.setAttribute("visibility", i === null ? "hidden" : "visible");
    if (i !== null) { ring.setAttribute("cx", filled[i].points[k].x); ring.setAttribute("cy", filled[i].points[k].y); }
  };
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const all = filled.flatMap(({ points }, i) => points.map((point, k) => [Math.hypot(point.x - x, point.y - y), i, k]));
    const [distance, i, k] = all.reduce((best, each) => each[0] < best[0] ? each : best);
    choose(...distance < 60 ? [i, k] : [null]);
  };
  svg.onpointerleave = () => choose(null);
  svg.onblur = () => choose(null);
  svg.onkeydown = event => {
    const key = event.key;
    if (key === "Escape") choose(null);
    if (!(key in STEPS)) return;
    event.preventDefault();
    choose(...moved(key));
  };
  // Left and right go along a series, or over the series if each has one point; up and down go to the next series there.
  function moved(key) {
    if (!chosen) return [0, 0];
    const [i, k] = chosen, { points } = filled[i], isVertical = key === "ArrowUp" || key === "ArrowDown";
    const within = (value, length) => Math.min(length - 1, Math.max(0, value));
    if (!isVertical && points.length > 1) return [i, within(k + STEPS[key], points.length)];
    const beside = filled.map((each, number) => number === i ? k : closest(each.points, points[k].x));
    const place = number => filled[number].points[beside[number]][isVertical ? "y" : "x"];
    const order = [...filled.keys()].sort((a, b) => place(a) - place(b) || a - b);
    const next = order[within(order.indexOf(i) + STEPS[key], order.length)];
    return [next, beside[next]];
  }
  choose(null);
}

// ---- charts of lines and points, with the names beside the ends of the lines

let clips = 0;
function axes(svg, width, height, right, { xName, x, xFormat, yFormat }, y) {
  const left = 50, bottom = height - 38, xStep = stepOf(x, (width - right - left) / 70), yStep = stepOf(y);
  const px = u => left + (u - x[0]) / (x[1] - x[0]) * (width - right - left), py = v => bottom - (v - y[0]) / (y[1] - y[0]) * (bottom - 10);
  for (const v of ticks(y, yStep)) {
    element("line", svg, "", { x1: left, x2: width - right, y1: py(v), y2: py(v), stroke: "var(--line)" });
    element("text", svg, yFormat(v, yStep), { x: left - 6, y: py(v) + 4, "text-anchor": "end" });
  }
  for (const u of ticks(x, xStep)) element("text", svg, xFormat(u, xStep), { x: px(u), y: bottom + 16, "text-anchor": "middle" });
  element("text", svg, xName, { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" });
  const clip = element("clipPath", svg, "", { id: `clip-${++clips}` });
  element("rect", clip, "", { x: left - 6, y: 4, width: width - right - left + 12, height: bottom + 2 });
  return { px, py: v => Math.min(bottom, Math.max(10, py(v))), exactly: py, clip: `url(#clip-${clips})`, end: width - right };
}
// Places for labels of a given height that are as near as possible to the wanted ones, in their order.
function spread(wanted, height, top, bottom) {
  const order = [...wanted.keys()].sort((a, b) => wanted[a] - wanted[b]), places = [];
  order.forEach((number, i) => { places[number] = Math.max(wanted[number], i ? places[order[i - 1]] + height : top); });
  order.reverse().forEach((number, i) => { places[number] = Math.min(places[number], i ? places[order[i - 1]] - height : bottom); });
  return places;
}
// `series` are {stack, isOpen, points: [x, y, low, high, text]}; low and high are null without a band. `zoom` is the range of y that matters.
function lineChart(parent, title, { series, y, zoom = null, lines = true, named = true, summary = "", ...scales }) {
  const names = shortened(series.map(({ stack }) => shortName(stack)), 22), label = ({ stack }) => names.get(shortName(stack));
  return figureOf(parent, title, (svg, width, isZoomed) => {
    const longest = Math.max(...series.map(each => label(each).length)), right = named ? Math.min(0.4 * width, 6.3 * longest + 26) : 14;
    const height = Math.max(named ? 270 : 190, named ? 14 * series.length + 60 : 0), plot = axes(svg, width, height, right, scales, isZoomed ? zoom : y);
    const drawn = series.map(each => {
      const node = element("g", svg);
      (lines ? drawLine : drawPoints)(element("g", node, "", { "clip-path": plot.clip }), plot, each);
      return { node, points: each.points.map(([u, v, , , text]) => ({ x: plot.px(u), y: plot.py(v), text })) };
    });
    if (named) drawNames(svg, plot, drawn, series.map(label), series, height);
    return { height, series: drawn };
  }, { zooms: zoom !== null, summary });
}
function drawLine(group, { px, exactly }, { stack, isOpen, points }) {
  const { color, dash } = styleOf(stack), path = pairs => pairs.map(([u, v]) => `${px(u).toFixed(1)} ${exactly(v).toFixed(1)}`).join("L");
  const band = points.filter(([, , low]) => low !== null);
  if (band.length > 1) {
    const edges = [...band.map(([u, , low]) => [u, low]), ...band.map(([u, , , high]) => [u, high]).reverse()];
    element("path", group, "", { d: `M${path(edges)}z`, fill: color, "fill-opacity": 0.12 });
  }
  element("path", group, "", { d: `M${path(points)}`, fill: "none", stroke: color, "stroke-width": 1.8, "stroke-dasharray": dash, "stroke-linejoin": "round" });
  const every = Math.max(1, Math.ceil(points.length / 5));
  points.forEach(([u, v], k) => { if ((points.length - 1 - k) % every === 0) drawMark(group, stack, px(u), exactly(v), 3.2, isOpen); });
}
function drawPoints(group, { px, exactly }, { stack, isOpen, points }) {
  const { color } = styleOf(stack);
  for (const [u, v, low, high] of points) {
    if (low !== null) element("line", group, "", { x1: px(u), x2: px(u), y1: exactly(low), y2: exactly(high), stroke: color, "stroke-width": 1.5 });
    drawMark(group, stack, px(u), exactly(v), 4.5, isOpen);
  }
}
function drawNames(svg, { end }, drawn, labels, series, height) {
  const places = spread(drawn.map(({ points }) => points.at(-1)?.y ?? 0), 14, 14, height - 40);
  drawn.forEach(({ node, points }, i) => {
    if (!points.length) return;
    const text = element("g", svg), { color } = styleOf(series[i].stack), last = points.at(-1);
    element("path", text, "", { d: `M${last.x + 5} ${last.y}L${end + 8} ${places[i]}h3`, fill: "none", stroke: color, "stroke-width": 0.7, "stroke-opacity": 0.4 });
    drawMark(text, series[i].stack, end + 16, places[i], 3.2, series[i].isOpen);
    element("title", element("text", text, labels[i], { class: "name", x: end + 23, y: places[i] + 4 }), series[i].stack);
    node.append(text);
  });
}
