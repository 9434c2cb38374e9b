
// ---- tables of decisions: written and read

const quoted = cell => /[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
const splitOf = row => audit.splits[row.split] ?? "";

function decisionTable() {
  const lines = [...decisions].sort(([first], [second]) => first - second).map(([position, decision]) => {
    const row = rows[position], cells = { index: row.index, file: row.file, split: splitOf(row), decision: decision.kind, ...subject.cells(row, decision) };
    return audit.columns.map(column => plainCell(String(cells[column])));
  });
  return [audit.columns, ...lines, ...others].map(line => line.map(quoted).join(",") + "\n").join("");
}
function download() {
  const address = URL.createObjectURL(new Blob([decisionTable()], { type: "text/csv" }));
  const link = element("a", document.body, "", { href: address, download: "decisions.csv", hidden: "" });
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  say(`decisions.csv has ${countText(decisions.size + others.length, "decision")}.`);
}

function parseTable(text) {
  const content = text.replace(/^\ufeff/, ""), head = content.split(/[\r\n]/, 1)[0];
  // Spreadsheets of some languages write semicolons.
  const separator = [",", ";", "\t"].reduce((best, mark) => head.split(mark).length > head.split(best).length ? mark : best);
  const table = [];
  let line = [], cell = "", isQuoted = false;
  const endLine = () => { table.push([...line, cell]); line = []; cell = ""; };
  for (let i = 0; i < content.length; i++) {
    const mark = content[i];
    if (isQuoted) {
      if (mark !== '"') cell += mark;
      else if (content[i + 1] === '"') { cell += '"'; i++; }
      else isQuoted = false;
    } else if (mark === '"' && cell === "") isQuoted = true;
    else if (mark === separator) { line.push(cell); cell = ""; }
    else if (mark === "\r" || mark === "\n") { if (mark === "\n" || content[i + 1] !== "\n") endLine(); }
    else cell += mark;
  }
  if (isQuoted) throw new Error("a quotation mark is not closed");
  if (cell || line.length) endLine();
  return table;
}

const answerColumn = audit.columns.at(-1);  // new_label or new_mask
function checkRow(cells, row) {
  for (const [column, text] of [["file", row.file], subject.given(row)])
    if (cells[column] && cells[column] !== text && cells[column] !== plainCell(text))
      throw new Error(`${column} is “${cells[column]}”, but “${text}” in this audit, so the table belongs to other data`);
}
function readDecision(cells, row) {
  const { decision: written } = cells;
  if (written && !subject.kinds.includes(written)) throw new Error(`decision “${written}” is none of ${subject.kinds.join(", ")}`);
  return subject.read(cells, row);
}
function readDecisions(text) {
  const [head, ...lines] = parseTable(text), names = head ? head.map(name => name.trim().toLowerCase()) : [];
  if (!names.includes("index") || !(names.includes("decision") || names.includes(answerColumn)))
    throw new Error(`its first line must name the columns index, and decision or ${answerColumn}`);
  const byIndex = new Map(), seen = new Map(), changes = [], foreign = [];
  for (const row of rows) byIndex.set(String(row.index), [...byIndex.get(String(row.index)) ?? [], row]);
  lines.forEach((line, number) => {
    const cells = Object.fromEntries(audit.columns.map(column => [column, line[names.indexOf(column)] ?? ""]));
    for (const column of ["index", "decision"]) cells[column] = cells[column].trim();
    if (!cells.decision && !cells[answerColumn]) return;
    const { index, split } = cells, answer = `${cells.decision} ${cells[answerColumn]}`;
    // Each split can have rows of its own.
    const [row, second] = (byIndex.get(index) ?? []).filter(row => !split || split === splitOf(row));
    const key = row ? row.position : `${split} ${index}`;
    try {
      if (!/^\d+$/.test(index)) throw new Error(`index “${index}” is not a number`);
      if (second) throw new Error(`index ${index} is in several splits; name one in a column split`);
      if (seen.has(key) && seen.get(key) !== answer) throw new Error(`index ${index} has two different decisions`);
      if (row) checkRow(cells, row);
      const decision = readDecision(cells, row);
      if (seen.has(key)) return;
      seen.set(key, answer);
      if (row) changes.push([row.position, decision]); else foreign.push(audit.columns.map(column => plainCell(cells[column])));
    } catch (error) {
      throw new Error(`row ${number + 2}: ${error.message}`);
    }
  });
  return { changes, foreign };
}
async function load(file) {
  try {
    const { changes, foreign } = readDecisions(await file.text());
    const isReplaced = ([position, { kind, label }]) => {
      const old = decisions.get(position);
      return old && (old.kind !== kind || old.label !== label);
    };
    const numReplaced = changes.filter(isReplaced).length;
    const keyOf = line => ["split", "index"].map(column => line[audit.columns.indexOf(column)]).join(" "), keys = new Set(foreign.map(keyOf));
    change(changes, [...others.filter(line => !keys.has(keyOf(line))), ...foreign]);
    drawAll();
    say(`${file.name}: ${countText(changes.length, "decision")} loaded${numReplaced ? `, ${numReplaced} in place of earlier ones` : ""}` +
      (foreign.length ? `; ${foreign.length} more about ${subject.noun}s that are not on this page are kept for the download.` : "."));
  } catch (error) {
    say(`${file.name} was not loaded, and nothing has changed: ${error.message}.`);
  }
}
