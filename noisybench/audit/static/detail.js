
// ---- decisions about the current row, and its larger picture

const actions = [
  ...subject.actions,
  ["X", () => "Exclude", () => decide("exclude")],
  ["U", () => "Unsure", () => decide("unsure")],
  ["C", () => "Clear", () => clearDecision()],
  ["Z", () => "Undo", () => undoLast()],
  ["P", () => "Previous", () => move(-1)],
  ["N", () => "Next", () => move(1)],
];
const isPossible = (key, row) => ({ A: subject.hasSuggestion(row), C: decisions.has(row.position), Z: past.length > 0,
  P: order.indexOf(current) > 0, N: order.indexOf(current) + 1 < order.length })[key] ?? true;

function drawActions(parent, row) {
  if (!parent.children.length) for (const [key, , action] of actions) {
    const button = element("button", parent, "", { type: "button", class: "action", "data-key": key });
    element("span", button);
    button.append(" ");
    element("kbd", button, key);
    button.onclick = action;
  }
  for (const [key, title] of actions) {
    const button = parent.querySelector(`[data-key="${key}"]`);
    button.firstChild.textContent = title(row);
    // Not `disabled`, which would take the focus away.
    button.setAttribute("aria-disabled", String(!isPossible(key, row)));
  }
}
function decide(kind, label = null) {
  const row = rows[current];
  if (!row) return;
  if (kind === "accept" && !isPossible("A", row)) return say(`The suggestion is the given ${subject.noun}: keep it with K.`);
  const decision = { kind, label: subject.labelFor(row, kind, label) }, next = order[order.indexOf(current) + 1];
  change([[current, decision]]);
  say(`${shortName(row)}: ${subject.decisionText(decision)}.${next === undefined ? ` This was the last ${subject.noun} of the list.` : ""}`);
  drawMark(cardOf(current), row);
  const isFiltered = byId("decision").value !== "any";
  // A filter by decision can take this row from the list, and the next one then has its place.
  if (isFiltered) { list(); drawGrid(); }
  if (!isFiltered || current === row.position) current = next ?? current;
  focusCurrent();
}
function clearDecision() {
  if (!decisions.has(current)) return;
  const row = rows[current];
  change([[current, undefined]]);
  say(`${shortName(row)}: cleared.`);
  drawAll();
  focusCurrent();
}
function undoLast() {
  const positions = undo();
  if (positions === null) return say("There is nothing to undo.");
  if (positions.length === 1) [current] = positions;
  drawAll();
  focusCurrent();
  say(positions.length === 1 ? `${shortName(rows[positions[0]])}: undone.` : `${countText(positions.length, "decision")} undone.`);
}
function focusCurrent() {
  if (current >= 0 && !cardOf(current)) drawGrid(); else drawCurrent();
  if (byId("larger").open) return drawLarger();
  const card = cardOf(current);
  // The buttons below the list keep the focus, so that they can be used in turn.
  if (!byId("dock").contains(document.activeElement)) card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest" });
}
function move(step) {
  const next = order[order.indexOf(current) + step];
  if (next === undefined) return;
  current = next;
  focusCurrent();
}
function numColumns() {
  const tops = [...byId("grid").children].map(item => item.offsetTop), second = tops.findIndex(top => top !== tops[0]);
  return second < 0 ? tops.length : second;
}

function openLarger() {
  say("");
  drawLarger();
  byId("larger").showModal();
}
function drawLarger() {
  const row = rows[current];
  if (!row) return byId("larger").close();
  const picture = byId("picture"), list = byId("facts"), split = splitOf(row);
  byId("larger-title").textContent = `${order.indexOf(current) + 1} of ${order.length}${row.picture ? `: ${shortName(row)}` : ""}`;
  picture.replaceChildren();
  if (row.picture) subject.drawPicture(picture, row, `Picture of ${nameOf(row)}`);
  else element("p", picture, nameOf(row), { tabindex: "0" });
  list.replaceChildren();
  const facts = [...subject.facts(row), ["Decision", decisions.has(current) ? subject.decisionText(decisions.get(current)) : "none"],
    ["Row in the data", String(row.index)], ...(split ? [["Split", split]] : []), ...subject.scores(row)];
  for (const [title, value] of facts) {
    element("dt", list, title);
    element("dd", list, value);
  }
  drawActions(byId("larger-actions"), row);
}
