
// ---- decisions about the current label, its larger picture, and the choice of another class

const actions = [
  ["A", row => `Accept: ${classOf(row.suggested)}`, () => decide("accept")],
  ["R", () => "Other class", () => openChooser()],
  ["K", row => `Keep: ${classOf(row.label)}`, () => decide("keep")],
  ["X", () => "Exclude", () => decide("exclude")],
  ["U", () => "Unsure", () => decide("unsure")],
  ["C", () => "Clear", () => clearDecision()],
  ["Z", () => "Undo", () => undoLast()],
  ["P", () => "Previous", () => move(-1)],
  ["N", () => "Next", () => move(1)],
];
const isPossible = (key, row) => ({ A: row.suggested !== row.label, C: decisions.has(row.position), Z: past.length > 0,
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
  if (kind === "accept" && !isPossible("A", row)) return say("The suggestion is the given label: keep it with K.");
  const decision = { kind, label: labelFor(row, kind, label) }, next = order[order.indexOf(current) + 1];
  change([[current, decision]]);
  say(`${shortName(row)}: ${decisionText(decision)}.${next === undefined ? " This was the last label of the list." : ""}`);
  drawMark(cardOf(current), row);
  const isFiltered = byId("decision").value !== "any";
  // A filter by decision can take this label from the list, and the next one then has its place.
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
  const picture = byId("picture"), facts = byId("facts"), split = splitOf(row);
  byId("larger-title").textContent = `${order.indexOf(current) + 1} of ${order.length}${row.picture ? `: ${shortName(row)}` : ""}`;
  picture.replaceChildren();
  if (row.picture) element("img", picture, "", { alt: `Picture of ${nameOf(row)}`, src: `data:image/webp;base64,${row.picture}` });
  else element("p", picture, nameOf(row), { tabindex: "0" });
  facts.replaceChildren();
  for (const [title, value] of [
    ["Given label", classOf(row.label)], ["Suggestion", `${classOf(row.suggested)} ${percentText(row.confidence)}`],
    ["Decision", decisions.has(current) ? decisionText(decisions.get(current)) : "none"], ["Row in the data", String(row.index)], ...(split ? [["Split", split]] : []),
    ...audit.detectors.map((name, number) => [`Score of ${name}`, row.scores[number].toFixed(2) + (isFlagged(row, number) ? " (flagged)" : "")]),
  ]) {
    element("dt", facts, title);
    element("dd", facts, value);
  }
  drawActions(byId("larger-actions"), row);
}

// ---- choice of a class by typing

let matches = [], chosen = 0;
function openChooser() {
  if (current < 0) return;
  byId("typed").value = "";
  drawMatches();
  byId("chooser").showModal();
}
function drawMatches() {
  const typed = byId("typed").value.trim().toLowerCase(), names = audit.classes.map(name => name.toLowerCase());
  const found = names.map((_, number) => number).filter(number => names[number].includes(typed));
  // A full match comes first, then names that begin with it.
  const rank = number => names[number] === typed ? 0 : names[number].startsWith(typed) ? 1 : 2;
  matches = found.sort((a, b) => rank(a) - rank(b) || a - b).slice(0, 10);
  chosen = 0;
  byId("matches").replaceChildren();
  matches.forEach((number, place) => {
    element("li", byId("matches"), classOf(number), { role: "option", id: `match-${place}` }).onclick = () => choose(number);
  });
  byId("matches").hidden = !matches.length;
  byId("no-match").textContent = matches.length < found.length ? `${found.length - matches.length} more: type more letters.`
    : matches.length ? "" : "No class has this in its name.";
  drawChosen();
}
function drawChosen() {
  [...byId("matches").children].forEach((option, place) => option.setAttribute("aria-selected", String(place === chosen)));
  byId("typed").setAttribute("aria-expanded", String(matches.length > 0));
  if (matches.length) byId("typed").setAttribute("aria-activedescendant", `match-${chosen}`);
  else byId("typed").removeAttribute("aria-activedescendant");
}
function choose(number) {
  byId("chooser").close();
  decide(kindFor(rows[current], number), number);
}
