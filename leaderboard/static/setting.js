
// ---- table of the setting that is shown

let setting = null;
// The address holds the title of the sorted column, with a minus sign in front if the order is descending.
const orderOf = () => state.sort ? [state.sort.replace(/^-/, ""), state.sort.startsWith("-") ? -1 : 1] : ["rank", 1];

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
// Several published results are listed below the row, since their full text would be much higher than all other cells.
function cellOf(row, column) {
  if (column.name !== "published" || row.published.length < 2) return column.show(row);
  const values = row.published.map(result => result[0]);
  return `${values.length} results, ${Math.min(...values)} to ${Math.max(...values)}`;
}
const isEmpty = cell => ["", "–", "local"].includes(cell);

function passesFilters(row) {
  return (row.stack + " " + shortName(row.stack)).toLowerCase().includes(state.stack.toLowerCase().trim())
    && (state.privileged === "any" || (state.privileged === "none" ? !row.privileged.length : row.privileged.includes(state.privileged.slice(1))))
    && row.seeds >= (Number(state.seeds) || 0)
    && (state.cost === "" || (row.wall_seconds !== null && row.wall_seconds[0] <= Number(state.cost)));
}
const filteredRows = () => setting.rows.filter(passesFilters);

const filledColumns = () => columns.filter(column => setting.rows.some(row => !isEmpty(column.show(row))));
function drawColumnChooser() {
  const box = byId("columns"), hidden = new Set(state.hide.split(",").filter(Boolean));
  while (box.children.length > 1) box.lastChild.remove();
  for (const column of filledColumns().filter(({ name, title }) => name !== "rank" && title !== "stack")) {
    const label = element("label", box, "", { title: column.description }), check = element("input", label, "", { type: "checkbox" });
    label.append(column.title);
    check.checked = !hidden.has(column.name);
    check.onchange = () => {
      if (check.checked) hidden.delete(column.name); else hidden.add(column.name);
      note({ hide: [...hidden].join(",") });
      drawTable();
    };
  }
}
// A bar behind the score that ranks, from the lowest to the highest one that is shown.
function drawBar(td, row, rows) {
  const values = rows.map(each => each[state.rule]).filter(Boolean).map(summary => summary[0]), low = Math.min(...values), high = Math.max(...values);
  if (!row[state.rule] || high === low) return;
  td.classList.add("bar-cell");
  td.style.setProperty("--fill", `${(10 + 90 * (row[state.rule][0] - low) / (high - low)).toFixed(1)}%`);
}
function drawTable() {
  const head = byId("head"), body = byId("body"), focused = document.activeElement?.dataset?.sort;
  head.replaceChildren(); body.replaceChildren();
  const hidden = new Set(state.hide.split(",")), order = orderOf();
  const shown = filledColumns().filter(column => !hidden.has(column.name));
  for (const column of shown) {
    const grayed = column.title === "oracle" ? " oracle" : "";
    const th = element("th", head, "", { scope: "col", class: (column.text ? "text" : "") + grayed });
    if (order[0] === column.title) th.setAttribute("aria-sort", order[1] > 0 ? "ascending" : "descending");
    const button = element("button", th, column.title, { type: "button", "data-sort": column.title, title: column.description });
    button.onclick = () => {
      const direction = order[0] === column.title ? -order[1] : column.first;
      note({ sort: (direction < 0 ? "-" : "") + column.title });
      drawTable();
    };
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
    const tr = element("tr", body, "", { class: startsGroup ? "row group" : "row", "data-stack": row.stack });
    for (const column of shown) {
      if (column.title === "stack") { drawStack(tr, row, shown.length); continue; }
      const kind = (column.text ? "text " : "") + (column.title === "published" ? "wrap " : "") + (column.title === "oracle" ? "oracle" : "") + (row.best.includes(column.name) ? "best" : "");
      const td = element("td", tr, cellOf(row, column), { class: kind });
      const hint = column.hint(row);
      if (hint) td.title = hint;
      if (column.name === state.rule) drawBar(td, row, rows);
    }
  }
  byId("shown").textContent = rows.length === setting.rows.length ? `${rows.length} stack${rows.length === 1 ? "" : "s"}` : `${rows.length} of ${setting.rows.length} stacks`;
}
function drawStack(tr, row, width) {
  const td = element("td", tr, "", { class: "text stack" });
  const button = element("button", td, "", { type: "button", "aria-expanded": "false", title: "Show its runs" });
  swatch(button, row.stack, isOpen(row));
  element("span", button, shortName(row.stack), { title: row.stack });
  if (row.warnings.length) element("span", td, " ⚠", { class: "flag", role: "img", title: row.warnings.join("\n"), "aria-label": "Its runs reported warnings" });
  button.onclick = () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) tr.nextSibling.remove(); else tr.after(runsOf(row, width));
  };
}
// Identifiers of MLflow only: a link is never built from other text of a record.
const isTracked = run => Boolean(board.runs_url) && /^[0-9a-f]{32}$/.test(run);
// All runs of a setting in MLflow's charts, the best first. A filter also lists runs that are nested under others, which a table without one does not draw.
function comparisonAddress(summary) {
  const tag = (name, value) => `tags.\`${board.tracked.prefix}${name}\` = '${value.replaceAll("'", "")}'`;
  const query = { workflowType: "machine_learning", compareRunsMode: "CHART", searchFilter: `${tag("label_set", summary.labels)} and ${tag("budget", summary.budget)}`,
    orderByKey: `metrics.\`${board.tracked.score}\``, orderByAsc: "false" };
  return `${board.runs_url.replace(/\/$/, "")}?${Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;
}
function runsOf(row, width) {
  const tr = element("tr", document.createElement("tbody"), "", { class: "runs" });
  const list = element("td", tr, "", { colspan: width, class: "text" });
  const about = element("p", list);
  // The name of the stack in configurations.
  if (shortName(row.stack) !== row.stack) element("code", about, row.stack);
  linkCards(about, row.stack);
  for (const warning of row.warnings) prose(element("div", list, "", { class: "warning" }), warning);
  for (const [value, deviation, protocol, architecture, method, source] of row.published) {
    const spread = deviation === null ? "" : ` ± ${deviation}`;
    element("div", list, `published: ${method} ${value}${spread} ${protocol}, ${architecture} (${source})`, { class: "note" });
  }
  for (const [seed, run, last, last10, noisyVal, labelWave, oracle, code, origin] of row.runs) {
    const item = element("div", list);
    const scores = [["last", last], ["last10", last10], ["noisy_val", noisyVal], ["label_wave", labelWave], ["oracle", oracle]].filter(([, value]) => value !== null);
    element("span", item, `seed ${seed}: ${scores.map(([rule, value]) => `${rule} ${fixed(100 * value, 2)}`).join(", ")} `);
    if (isTracked(run)) {
      element("a", item, "run", { href: `${board.runs_url}${run}?workflowType=machine_learning` });
      element("span", item, " ");
      element("a", item, "artifacts", { href: `${board.runs_url}${run}/artifacts?workflowType=machine_learning` });
    }
    if (origin) element("span", item, ` ${origin}`, { class: "note" });
    if (code !== row.code) element("span", item, ` code ${code}`, { class: "note" });
  }
  return tr;
}

// ---- comparison of two stacks

function drawPair() {
  const [a, b] = ["first", "second"].map(id => setting.rows.findIndex(row => row.stack === byId(id).value)), text = byId("pair");
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
  text.textContent = `${shortName(setting.rows[a].stack)} minus ${shortName(setting.rows[b].stack)}, by ${state.rule}: ${fixed(difference, 2)} points` +
    (ends ? ` (95 % interval by paired bootstrap: ${fixed(ends[0], 2)} to ${fixed(ends[1], 2)})` : "") +
    `. ${pText(pair[5])} by the ranking test, adjusted for all pairs; for this pair alone ${pText(pair[6])} by the permutation ` +
    `test and ${pText(pair[7])} by Wilcoxon's signed-rank test. ${verdict}`;
}

// ---- the view

function listSettings() {
  const shown = chosenSettings(), titles = shown.map(shortTitle);
  // Settings of equal titles differ in their budget, or only in their label set.
  const name = (summary, i) => titles.indexOf(titles[i]) === titles.lastIndexOf(titles[i]) ? titles[i] : `${titles[i]} (${summary.network}, ${summary.epochs} epochs, labels ${summary.labels.slice(0, 6)})`;
  fill(byId("settings"), shown.map((summary, i) => [summary.key, name(summary, i)]), state.setting);
}
function describeSetting(summary) {
  const budget = setting.budget, rate = summary.rate === null ? "The noise rate is unknown" : `Actual noise rate ${percent(summary.rate)}`;
  const others = board.settings.filter(other => other.labels === summary.labels && other.key !== summary.key);
  byId("title").textContent = `${shortTitle(summary)} · ${summary.network}, ${summary.epochs} epochs`;
  const text = byId("about");
  withCode(text, `${setting.convention.charAt(0).toUpperCase()}${setting.convention.slice(1)}. ${rate}. Label set ${summary.labels.slice(0, 16)}; budget ${summary.budget}: ${budget.network}, ${budget.epochs} epochs, ` +
    `batch size ${budget.batch_size}, ${budget.optimizer}, learning rate ${budget.learning_rate} (${budget.lr_schedule}), augmentation ${budget.augmentation}. ` +
    `Code ${summary.code || "not recorded"} (version ${setting.versions.join(", ")}).`);
  if (setting.rows.some(row => row.runs.some(([, run]) => isTracked(run)))) {
    element("span", text, " ");
    element("a", text, "Compare the runs in MLflow", { href: comparisonAddress(summary) });
    element("span", text, ".");
  }
  if (others.length) element("span", text, " The same labels under other budgets:");
  for (const other of others) {
    element("span", text, " ");
    element("a", text, `${other.network}, ${other.epochs} epochs`, { href: addressOf({ setting: other.key }) });
  }
}
function showVerdict() {
  const text = byId("verdict"), group = answerOf(state.setting);
  text.replaceChildren();
  if (!group) return;
  element("b", text, `${group.rules[state.rule].headline} `);
  element("span", text, group.settings.length > 1 ? `over ${group.settings.length} settings, by ${state.rule}. ` : `here, by ${state.rule}. `);
  element("a", text, "Answer", { href: addressOf({ view: "answer" }) });
}
function showWarnings() {
  const box = byId("warnings"), { notes, warnings } = setting;
  box.replaceChildren();
  box.hidden = !notes.length && !warnings.length;
  box.open = notes.length + warnings.length <= 2 && matchMedia("(min-width: 641px)").matches;
  element("summary", box, [[notes.length, "note"], [warnings.length, "warning"]].filter(([count]) => count).map(([count, noun]) => `${count} ${noun}${count === 1 ? "" : "s"}`).join(", "));
  for (const text of notes) prose(element("p", box, "", { class: "note" }), text);
  for (const text of warnings) prose(element("p", box, "", { class: "warning" }), text);
}
// The controls show what the address says.
function showControls() {
  const names = [...new Set(setting.rows.flatMap(row => row.privileged))].sort(), stacks = setting.rows.map(row => [row.stack, shortName(row.stack)]);
  fill(byId("privileged"), [["any", "any"], ["none", "none"], ...names.map(name => ["=" + name, name])], state.privileged);
  const known = name => stacks.some(([stack]) => stack === name);
  fill(byId("first"), stacks, known(state.first) ? state.first : stacks[0][0]);
  fill(byId("second"), stacks, known(state.second) ? state.second : stacks[Math.min(1, stacks.length - 1)][0]);
  if (["stack", "privileged", "seeds", "cost", "hide"].some(key => state[key] !== defaults[key])) byId("filters").open = true;
  // A field that is being edited keeps its text and cursor.
  for (const id of ["stack", "seeds", "cost"]) if (byId(id).value !== state[id]) byId(id).value = state[id];
}
function drawSetting(view) {
  const shown = chosenSettings();
  byId("controls").replaceChildren();
  if (board.settings.length) drawControls(byId("controls"));
  for (const part of view.children) part.hidden = !shown.length && part.id !== "controls";
  if (!shown.length) {
    element("p", byId("controls"), board.settings.length ? "No setting passes the filters." : "No finished runs yet. Create some with: noisybench bench quickstart");
    return;
  }
  if (!shown.some(summary => summary.key === state.setting)) note({ setting: shown[0].key });
  setting = detailOf(state.setting);
  listSettings();
  showControls();
  describeSetting(summaryOf(state.setting));
  showWarnings();
  byId("footnote").replaceChildren();
  prose(byId("footnote"), setting.rules[state.rule].footnote);
  showVerdict();
  drawColumnChooser();
  drawTable(); drawPair(); drawPlots();
}
registerView("boards", "Boards", drawSetting, { stack: "", privileged: "any", seeds: "1", cost: "", sort: "", first: "", second: "", hide: "" });

byId("settings").onchange = () => navigate({ setting: byId("settings").value, sort: "", first: "", second: "" });
for (const id of ["stack", "privileged", "seeds", "cost"]) byId(id).oninput = () => { note({ [id]: byId(id).value }); drawTable(); drawPlots(); };
for (const id of ["first", "second"]) byId(id).onchange = () => { note({ [id]: byId(id).value }); drawPair(); };
