
// ---- list of rows: filtered, sorted, and drawn in portions

const portion = 60;
let order = rows.map(row => row.position), current = 0, numShown = portion;

const sortKeys = Object.fromEntries([["rank", row => row.position], ...subject.sorts.map(([key, , value]) => [key, value]), ["name", nameOf], ["index", row => row.index]]);

function fillFilters() {
  for (const [id, options] of subject.filters) fill(byId(id), options(), "any");
  fill(byId("split"), [["any", "any split"], ...audit.splits.map((name, number) => [String(number), name])], "any");
  byId("splits").hidden = audit.splits.length < 2;
  fill(byId("decision"), [["any", "any or none"], ["none", "undecided"], ["some", "decided"], ...subject.kinds.map(kind => [kind, kind])], "any");
  fill(byId("sort"), [["rank", "suspicion"], ...subject.sorts, ["name", "name"], ["index", "row in the data"]], "rank");
}
function isWanted(row) {
  const [split, decision] = ["split", "decision"].map(id => byId(id).value), kind = decisions.get(row.position)?.kind;
  return subject.filters.every(([id, , matches]) => byId(id).value === "any" || matches(row, byId(id).value))
    && (split === "any" || Number(split) === row.split)
    && (decision === "any" || (decision === "none" ? !kind : decision === "some" ? kind : kind === decision))
    && words(byId("find")).every(word => nameOf(row).toLowerCase().includes(word));
}
const { compare: compareTexts } = new Intl.Collator("en", { numeric: true });
function list() {
  const key = sortKeys[byId("sort").value], before = order.indexOf(current);
  const compare = (a, b) => typeof a === "string" ? compareTexts(a, b) : a - b;
  order = rows.filter(isWanted).sort((a, b) => compare(key(a), key(b)) || a.position - b.position).map(row => row.position);
  // The row after one that has left the list takes its place.
  if (!order.includes(current)) current = order[Math.min(Math.max(before, 0), order.length - 1)] ?? -1;
}
function drawMark(card, row) {
  const mark = card.querySelector(".mark"), decision = decisions.get(row.position);
  mark.replaceChildren();
  if (decision) element("span", mark, subject.decisionText(decision), { class: decision.kind });
}
function drawCard(row) {
  const card = element("button", element("li", byId("grid")), "", { type: "button", class: "card", "data-position": row.position });
  if (row.picture) subject.drawPicture(card, row, "");
  subject.drawLines(card, row);
  element("span", card, nameOf(row), { class: "name" });
  element("span", card, "", { class: "mark" });
  drawMark(card, row);
}
function drawGrid() {
  numShown = Math.max(numShown, order.indexOf(current) + 1);
  const shown = order.slice(0, numShown), numLeft = order.length - shown.length;
  byId("grid").replaceChildren();
  for (const position of shown) drawCard(rows[position]);
  byId("shown").textContent = `${order.length.toLocaleString("en")} of ${countText(rows.length, subject.noun)}`;
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
    text.append(` · ${order.indexOf(current) + 1} of ${order.length} · ${subject.describe(row)}`);
    if (decisions.has(current)) element("b", text, ` · ${subject.decisionText(decisions.get(current))}`);
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
