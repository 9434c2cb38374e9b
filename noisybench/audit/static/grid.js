
// ---- list of labels: filtered, sorted, and drawn in portions

const portion = 60;
let order = rows.map(row => row.position), current = 0, numShown = portion;

const pairKey = row => `${row.label} ${row.suggested}`;
const isFlagged = (row, detector) => row.flags >> detector & 1;
const sortKeys = {
  rank: row => row.position, confidence: row => -row.confidence, name: nameOf,
  label: row => classOf(row.label), suggested: row => classOf(row.suggested), index: row => row.index,
};
audit.detectors.forEach((name, number) => { sortKeys[`score ${name}`] = row => -row.scores[number]; });

function fillFilters() {
  const pairs = new Map();
  for (const row of rows) pairs.set(pairKey(row), (pairs.get(pairKey(row)) ?? 0) + 1);
  fill(byId("pair"), [["any", "any classes"], ...[...pairs].sort((a, b) => b[1] - a[1]).map(([key, count]) => {
    const [label, suggested] = key.split(" ");
    return [key, `${classOf(label)} → ${classOf(suggested)} (${count})`];
  })], "any");
  fill(byId("detector"), [["any", "any detector"], ["all", "all detectors"], ...audit.detectors.map((name, number) =>
    [String(number), `${name} (${rows.filter(row => isFlagged(row, number)).length})`])], "any");
  fill(byId("split"), [["any", "any split"], ...audit.splits.map((name, number) => [String(number), name])], "any");
  byId("splits").hidden = audit.splits.length < 2;
  fill(byId("decision"), [["any", "any or none"], ["none", "undecided"], ["some", "decided"], ...kinds.map(kind => [kind, kind])], "any");
  fill(byId("sort"), [["rank", "suspicion"], ...audit.detectors.map(name => [`score ${name}`, `score of ${name}`]),
    ["confidence", "confidence"], ["name", "name"], ["label", "given label"], ["suggested", "suggestion"], ["index", "row in the data"]], "rank");
}
function isWanted(row) {
  const [pair, detector, split, decision] = ["pair", "detector", "split", "decision"].map(id => byId(id).value), kind = decisions.get(row.position)?.kind;
  return (pair === "any" || pair === pairKey(row))
    && (detector === "any" || (detector === "all" ? audit.detectors.every((_, number) => isFlagged(row, number)) : isFlagged(row, Number(detector))))
    && (split === "any" || Number(split) === row.split)
    && (decision === "any" || (decision === "none" ? !kind : decision === "some" ? kind : kind === decision))
    && words(byId("find")).every(word => nameOf(row).toLowerCase().includes(word));
}
const { compare: compareTexts } = new Intl.Collator("en", { numeric: true });
function list() {
  const key = sortKeys[byId("sort").value], before = order.indexOf(current);
  const compare = (a, b) => typeof a === "string" ? compareTexts(a, b) : a - b;
  order = rows.filter(isWanted).sort((a, b) => compare(key(a), key(b)) || a.position - b.position).map(row => row.position);
  // The label after one that has left the list takes its place.
  if (!order.includes(current)) current = order[Math.min(Math.max(before, 0), order.length - 1)] ?? -1;
}
function drawMark(card, row) {
  const mark = card.querySelector(".mark"), decision = decisions.get(row.position);
  mark.replaceChildren();
  if (decision) element("span", mark, decisionText(decision), { class: decision.kind });
}
function drawCard(row) {
  const card = element("button", element("li", byId("grid")), "", { type: "button", class: "card", "data-position": row.position });
  if (row.picture) element("img", card, "", { alt: "", src: `data:image/webp;base64,${row.picture}` });
  for (const [title, number, note] of [["given", row.label, ""], ["suggested", row.suggested, ` ${percentText(row.confidence)}`]]) {
    const line = element("span", card, `${title} `);
    element("b", line, classOf(number));
    line.append(note);
  }
  element("span", card, nameOf(row), { class: "name" });
  element("span", card, "", { class: "mark" });
  drawMark(card, row);
}
function drawGrid() {
  numShown = Math.max(numShown, order.indexOf(current) + 1);
  const shown = order.slice(0, numShown), numLeft = order.length - shown.length;
  byId("grid").replaceChildren();
  for (const position of shown) drawCard(rows[position]);
  byId("shown").textContent = `${order.length.toLocaleString("en")} of ${countText(rows.length, "label")}`;
  byId("more").hidden = !numLeft;
  byId("more").textContent = `Show ${Math.min(portion, numLeft)} more (${numLeft.toLocaleString("en")} left)`;
  drawCurrent();
}
const cardOf = position => byId("grid").querySelector(`[data-position="${position}"]`);
function drawCurrent() {
  for (const card of byId("grid").querySelectorAll(".card")) {
    const isCurrent = card.dataset.position === String(current);
    card.tabIndex = isCurrent ? 0 : -1;
    if (isCurrent) card.setAttribute("aria-current", "true"); else card.removeAttribute("aria-current");
  }
  const row = rows[current], text = byId("current");
  byId("dock").hidden = !row;
  text.replaceChildren();
  if (row) {
    element("b", text, shortName(row));
    text.append(` · ${order.indexOf(current) + 1} of ${order.length} · given ${classOf(row.label)}, suggested ${classOf(row.suggested)} ${percentText(row.confidence)}`);
    if (decisions.has(current)) element("b", text, ` · ${decisionText(decisions.get(current))}`);
    drawActions(byId("dock-actions"), row);
  }
  byId("decided").textContent = `${decisions.size.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  Object.assign(byId("progress"), { max: rows.length, value: decisions.size });
}
function drawAll() {
  list();
  drawGrid();
  if (byId("larger").open) drawLarger();
}
