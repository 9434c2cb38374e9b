
// ---- labels with one class each

const classNumbers = new Map(audit.classes.flatMap((name, number) => [[plainCell(name), number], [name, number]]));
const kindFor = (row, label) => label === row.label ? "keep" : label === row.suggested ? "accept" : "relabel";
const pairKey = row => `${row.label} ${row.suggested}`;
const isFlagged = (row, detector) => row.flags >> detector & 1;

const subject = {
  noun: "label",
  kinds: ["accept", "relabel", "keep", "exclude", "unsure"],
  actions: [
    ["A", row => `Accept: ${classOf(row.suggested)}`, () => decide("accept")],
    ["R", () => "Other class", () => openChooser()],
    ["K", row => `Keep: ${classOf(row.label)}`, () => decide("keep")],
  ],
  shortcuts: {},
  filters: [
    ["pair", pairOptions, (row, pair) => pair === pairKey(row)],
    ["detector", detectorOptions, (row, detector) => detector === "all" ? audit.detectors.every((_, number) => isFlagged(row, number)) : isFlagged(row, Number(detector))],
  ],
  sorts: [
    ...audit.detectors.map((name, number) => [`score ${name}`, `score of ${name}`, row => -row.scores[number]]),
    ["confidence", "confidence", row => -row.confidence], ["label", "given label", row => classOf(row.label)], ["suggested", "suggestion", row => classOf(row.suggested)],
  ],
  row: ([index, file, split, label, suggested, confidence, flags, scores]) => ({ index, file, split, label, suggested, confidence, flags, scores }),
  hasSuggestion: row => row.suggested !== row.label,
  labelFor: (row, kind, label) => ({ accept: row.suggested, keep: row.label, relabel: label })[kind] ?? null,
  decisionText: ({ kind, label }) => label === null ? kind : `${kind}: ${classOf(label)}`,
  describe: row => `given ${classOf(row.label)}, suggested ${classOf(row.suggested)} ${percentText(row.confidence)}`,
  facts: row => [["Given label", classOf(row.label)], ["Suggestion", `${classOf(row.suggested)} ${percentText(row.confidence)}`]],
  scores: row => audit.detectors.map((name, number) => [`Score of ${name}`, row.scores[number].toFixed(2) + (isFlagged(row, number) ? " (flagged)" : "")]),
  given: row => ["label", classOf(row.label)],
  cells: (row, { label }) => ({ label: classOf(row.label), suggested: classOf(row.suggested), new_label: label === null ? "" : classOf(label) }),
  read(cells, row) {
    const { decision: written, new_label: named } = cells, label = named ? classNumbers.get(named) : null;
    if (label === undefined) throw new Error(`new_label “${named}” is not a class of this audit`);
    if (!row) return null;
    const kind = written || kindFor(row, label), wanted = subject.labelFor(row, kind, label);
    if (kind === "relabel" && label === null) throw new Error("relabel needs a new_label");
    if (label !== null && label !== wanted) throw new Error(`${kind} contradicts new_label “${named}”`);
    return { kind, label: wanted };
  },
  drawPicture(parent, row, text) {
    element("img", parent, "", { alt: text, src: `data:image/webp;base64,${row.picture}` });
  },
  drawLines(card, row) {
    for (const [title, number, note] of [["given", row.label, ""], ["suggested", row.suggested, ` ${percentText(row.confidence)}`]]) {
      const line = element("span", card, `${title} `);
      element("b", line, classOf(number));
      line.append(note);
    }
  },
  start() {
    byId("chooser").onclose = focusCurrent;
    byId("typed").oninput = drawMatches;
    byId("typed").onkeydown = onTypedKey;
  },
};

function pairOptions() {
  const pairs = new Map();
  for (const row of rows) pairs.set(pairKey(row), (pairs.get(pairKey(row)) ?? 0) + 1);
  return [["any", "any classes"], ...[...pairs].sort((a, b) => b[1] - a[1]).map(([key, count]) => {
    const [label, suggested] = key.split(" ");
    return [key, `${classOf(label)} → ${classOf(suggested)} (${count})`];
  })];
}
function detectorOptions() {
  return [["any", "any detector"], ["all", "all detectors"], ...audit.detectors.map((name, number) =>
    [String(number), `${name} (${rows.filter(row => isFlagged(row, number)).length})`])];
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
function onTypedKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!matches.length || !(step || event.key === "Enter")) return;
  event.preventDefault();
  if (!step) return choose(matches[chosen]);
  chosen = (chosen + step + matches.length) % matches.length;
  drawChosen();
}
