
// ---- decisions: stored in the browser, and undone one change at a time

const rows = audit.rows.map((fields, position) => ({ position, ...subject.row(fields), picture: audit.pictures[position] }));
const storageKey = `noisybench-audit-${audit.digest}`;
const decisions = new Map();  // position -> { kind, label }, where the label is null for exclude and unsure, and for masks
let others = [];  // rows of loaded tables about rows that are not on this page, which a download returns
let past = [];  // states before each change
let isStored = true;

const isDecision = (row, { kind, label }) => row && subject.kinds.includes(kind) && subject.labelFor(row, kind, label) === label && (label === null || label in audit.classes);

function reportUnstored(error) {
  isStored = false;
  byId("storage").textContent = `This browser does not store decisions (${error.message}). Download them before you close this page.`;
  byId("storage").className = "warning";
}
function restore() {
  try {
    const text = localStorage.getItem(storageKey) ?? '{"decisions": [], "others": []}', stored = JSON.parse(text);
    for (const [position, decision] of stored.decisions) if (isDecision(rows[position], decision)) decisions.set(position, decision);
    others = stored.others;
    localStorage.setItem(storageKey, text);
    byId("storage").textContent = "Decisions are stored in this browser, for this audit.";
  } catch (error) {
    reportUnstored(error);
  }
}
function store() {
  if (!isStored) return;
  try {
    localStorage.setItem(storageKey, JSON.stringify({ decisions: [...decisions], others }));
  } catch (error) {
    reportUnstored(error);
  }
}
function set(changes, newOthers) {
  for (const [position, decision] of changes) if (decision) decisions.set(position, decision); else decisions.delete(position);
  others = newOthers;
  store();
}
function change(changes, newOthers = others) {
  past.push([changes.map(([position]) => [position, decisions.get(position)]), others]);
  set(changes, newOthers);
}
// Returns the positions whose decisions were undone; null if there are none.
function undo() {
  const last = past.pop();
  if (!last) return null;
  set(...last);
  return last[0].map(([position]) => position);
}
