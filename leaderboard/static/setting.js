
// ---- table of the setting that is shown

let setting = null, order = ["rank", 1], shownSetting = "";

const rankOf = row => setting.rules[state.rule].ranks[setting.rows.indexOf(row)];
// The texts of the cells are those of all other formats; summaries are sorted by their mean.
const columns = board.columns.map((column, index) => ({
  ...column,
  first: column.text || column.better === "lower" ? 1 : -1,
  show: row => column.name === "rank" ? String(rankOf(row) ?? "–") : row.cells[index],
  value: row => sortValue(row, column, index),
  hint: row => hintOf(row, column),
}));
function sortValue(row, column, index) {
  if (column.name === "rank") return rankOf(row) ?? Infinity;
  if (column.text) return row.cells[index];
  const value = row[column.name];
  return (Array.isArray(value) ? value[0] : value) ?? -Infinity;
}
function hintOf(row, column) {
  if (column.name === "published") return [...new Set(row.published.map(result => result[5]))].join("\n");
  return !column.text && Array.isArray(row[column.name]) ? interval(row[column.name]) : "";
}
const isEmpty = cell => ["", "–", "local"].includes(cell);

function passesFilters(row) {
  const privileged = byId("privileged").value, cost = byId("cost").value;
  return row.stack.toLowerCase().includes(byId("stack").value.toLowerCase().trim())
    && (privileged === "any" || (privileged === "none" ? !row.privileged.length : row.privileged.includes(privileged.slice(1))))
    && row.seeds >= (Number(byId("seeds").value) || 0)
    && (cost === "" || (row.wall_seconds !== null && row.wall_seconds[0] <= Number(cost)));
}
const filteredRows = () => setting.rows.filter(passesFilters);

function drawTable() {
  const head = byId("head"), body = byId("body"), focused = document.activeElement?.dataset?.sort;
  head.replaceChildren(); body.replaceChildren();
  const shown = columns.filter(column => setting.rows.some(row => !isEmpty(column.show(row))));
  for (const column of shown) {
    const grayed = column.title === "oracle" ? " oracle" : "";
    const th = element("th", head, "", { scope: "col", class: (column.text ? "text" : "") + grayed });
    if (order[0] === column.title) th.setAttribute("aria-sort", order[1] > 0 ? "ascending" : "descending");
    const button = element("button", th, column.title, { type: "button", "data-sort": column.title, title: column.description });
    button.onclick = () => { order = [column.title, order[0] === column.title ? -order[1] : column.first ?? -1]; drawTable(); };
    if (focused === column.title) button.focus();
  }
  const by = columns.find(c => c.title === order[0]) ?? columns[0], position = new Map(setting.rows.map((row, i) => [row, i]));
  const compared = (a, b) => { const x = by.value(a), y = by.value(b); return (x < y ? -1 : x > y ? 1 : 0) * order[1]; };
  const score = row => -mean(row[state.rule]);
  const rows = filteredRows().sort((a, b) => compared(a, b) || score(a) - score(b) || position.get(a) - position.get(b));
  let previous = null;
  for (const row of rows) {
    const startsGroup = by.title === "rank" && previous !== null && rankOf(row) !== previous;
    previous = rankOf(row);
    const tr = element("tr", body, "", { class: startsGroup ? "row group" : "row" });
    for (const column of shown) {
      if (column.title === "stack") { drawStack(tr, row, shown.length); continue; }
      const kind = (column.text ? "text " : "") + (column.title === "published" ? "wrap " : "") + (column.title === "oracle" ? "oracle" : "") + (row.best.includes(column.name) ? "best" : "");
      const td = element("td", tr, column.show(row), { class: kind });
      const hint = column.hint(row);
      if (hint) td.title = hint;
    }
  }
  byId("shown").textContent = rows.length === setting.rows.length ? `${rows.length} stack${rows.length === 1 ? "" : "s"}` : `${rows.length} of ${setting.rows.length} stacks`;
}
function drawStack(tr, row, width) {
  const td = element("td", tr, "", { class: "text stack" });
  const button = element("button", td, "", { type: "button", "aria-expanded": "false", title: "Show its runs" });
  swatch(button, row.stack, isOpen(row));
  element("span", button, row.stack);
  if (row.warnings.length) element("span", td, " ⚠", { class: "flag", role: "img", title: row.warnings.join("\n"), "aria-label": "Its runs reported warnings" });
  button.onclick = () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) tr.nextSibling.remove(); else tr.after(runsOf(row, width));
  };
}
function runsOf(row, width) {
  const tr = element("tr", document.createElement("tbody"), "", { class: "runs" });
  const list = element("td", tr, "", { colspan: width, class: "text" });
  for (const warning of row.warnings) element("div", list, warning, { class: "warning" });
  for (const [seed, run, last, last10, noisyVal, labelWave, oracle, code, origin] of row.runs) {
    const item = element("div", list);
    const scores = [["last", last], ["last10", last10], ["noisy_val", noisyVal], ["label_wave", labelWave], ["oracle", oracle]].filter(([, value]) => value !== null);
    element("span", item, `seed ${seed}: ${scores.map(([rule, value]) => `${rule} ${(100 * value).toFixed(2)}`).join(", ")} `);
    // Identifiers of MLflow only: a link is never built from other text of a record.
    if (board.runs_url && /^[0-9a-f]{32}$/.test(run)) {
      element("a", item, "run", { href: board.runs_url + run });
      element("span", item, " ");
      element("a", item, "artifacts", { href: `${board.runs_url}${run}/artifacts` });
    }
    if (origin) element("span", item, ` ${origin}`, { class: "note" });
    if (code !== row.code) element("span", item, ` code ${code}`, { class: "note" });
  }
  return tr;
}

// ---- comparison of two stacks

function drawPair() {
  const a = Number(byId("first").value), b = Number(byId("second").value), text = byId("pair");
  const pair = setting.rules[state.rule].pairs.find(p => (p[0] === a && p[1] === b) || (p[0] === b && p[1] === a));
  if (a === b || !pair) {
    text.textContent = a === b ? "Select two stacks." : "These stacks share fewer than two seeds.";
    return;
  }
  const sign = pair[0] === a ? 1 : -1, difference = 100 * sign * pair[2];
  const ends = pair[3] === null ? null : [100 * sign * pair[3], 100 * sign * pair[4]].sort((x, y) => x - y);
  const verdict = pair[8] === 0 ? "The difference is significant."
    : pair[8] === null ? "Not significant; if the true difference is the observed one, more than a thousand further seeds are needed."
    : `Not significant; if the true difference is the observed one, ${pair[8]} more seeds detect it with 80 % power.`;
  text.textContent = `${setting.rows[a].stack} minus ${setting.rows[b].stack}, by ${state.rule}: ${difference.toFixed(2)} points` +
    (ends ? ` (95 % interval by paired bootstrap: ${ends[0].toFixed(2)} to ${ends[1].toFixed(2)})` : "") +
    `. ${pText(pair[5])} by the ranking test, adjusted for all pairs; for this pair alone ${pText(pair[6])} by the permutation ` +
    `test and ${pText(pair[7])} by Wilcoxon's signed-rank test. ${verdict}`;
}

// ---- the view

function listSettings() {
  const wanted = words(byId("find"));
  const matching = board.settings.filter(summary => summary.key === state.setting || wanted.every(word => settingName(summary).toLowerCase().includes(word)));
  fill(byId("settings"), matching.map(summary => [summary.key, settingName(summary)]), state.setting);
}
function describeSetting(summary) {
  const budget = setting.budget, rate = summary.rate === null ? "The noise rate is unknown" : `Actual noise rate ${percent(summary.rate)}`;
  const others = board.settings.filter(other => other.labels === summary.labels && other.key !== summary.key);
  const text = byId("about");
  text.textContent = `${setting.convention}. ${rate}. Label set ${summary.labels.slice(0, 16)}; budget ${summary.budget}: ${budget.network}, ${budget.epochs} epochs, ` +
    `batch size ${budget.batch_size}, ${budget.optimizer}, learning rate ${budget.learning_rate} (${budget.lr_schedule}), augmentation ${budget.augmentation}. ` +
    `Code ${summary.code || "not recorded"} (version ${setting.versions.join(", ")}).`;
  if (others.length) element("span", text, " The same labels under other budgets:");
  for (const other of others) {
    element("span", text, " ");
    element("a", text, `${other.network}, ${other.epochs} epochs`, { href: addressOf({ setting: other.key }) });
  }
}
function showVerdict() {
  const text = byId("verdict"), group = sectionOf("answer").find(each => each.settings.includes(state.setting) && each.rules[state.rule]);
  text.replaceChildren();
  if (!group) return;
  element("b", text, "Verdict: ");
  element("span", text, group.rules[state.rule].sentences[0] + " ");
  element("a", text, "More", { href: addressOf({ view: "across" }) });
}
function drawSetting() {
  if (!board.settings.length) {
    byId("about").textContent = "No finished runs yet. Create some with: noisybench bench quickstart";
    return;
  }
  setting = detailOf(state.setting);
  listSettings();
  byId("rule").value = state.rule;
  if (shownSetting !== state.setting) {
    const names = [...new Set(setting.rows.flatMap(row => row.privileged))].sort();
    fill(byId("privileged"), [["any", "any"], ["none", "none"], ...names.map(name => ["=" + name, name])], "any");
    const stacks = setting.rows.map((row, i) => [i, row.stack]);
    fill(byId("first"), stacks, 0);
    fill(byId("second"), stacks, Math.min(1, stacks.length - 1));
  }
  shownSetting = state.setting;
  describeSetting(summaryOf(state.setting));
  const warnings = byId("warnings");
  warnings.replaceChildren();
  for (const note of setting.notes) element("p", warnings, note, { class: "note" });
  for (const warning of setting.warnings) element("p", warnings, warning, { class: "warning" });
  byId("footnote").textContent = setting.rules[state.rule].footnote;
  showVerdict();
  drawTable(); drawPair(); drawPlots();
}
registerView("boards", "Boards", drawSetting);

fill(byId("rule"), rules.map(rule => [rule, rule]), state.rule);
byId("settings").onchange = () => { order = ["rank", 1]; navigate({ setting: byId("settings").value }); };
byId("rule").onchange = () => navigate({ rule: byId("rule").value });
byId("find").oninput = listSettings;
for (const id of ["stack", "privileged", "seeds", "cost"]) byId(id).oninput = () => { drawTable(); drawPlots(); };
byId("first").onchange = byId("second").onchange = drawPair;
