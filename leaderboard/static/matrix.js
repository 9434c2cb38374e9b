
// ---- matrix of methods and settings, colored by the distance to the best method without privileged information

const MAX_COLUMNS = 30;  // settings that a matrix shows at first
const heatSteps = [0.0005, 0.01, 0.02, 0.05, 0.1, 0.2];
const heatOf = gap => heatSteps.filter(step => Math.round(1e6 * gap) > 1e6 * step).length;
// Scores of equal text are equally good to readers, so all of them are emphasized, as in tables.
const inPoints = score => fixed(100 * score, 1);
const needsOf = (members, stack) => [...new Set(members.flatMap(summary => summary.privileged[stack] ?? []))].map(name => name.replaceAll("_", " "));

// Scores by one rule: of each setting its best method, and of each method its cells, average and number of first places.
function matrixOf(members, rule) {
  const index = rules.indexOf(rule), stacks = [...new Set(members.flatMap(summary => Object.keys(summary.scores)))];
  const best = members.map(summary => {
    const open = Object.keys(summary.scores).filter(stack => summary.scores[stack][index] && !summary.privileged[stack]);
    const scoreOf = stack => summary.scores[stack][index][0], rankOf = stack => summary.ranks[stack][index];
    const ranked = open.filter(stack => rankOf(stack) !== null).sort((a, b) => scoreOf(b) - scoreOf(a) || rankOf(a) - rankOf(b)), rank = ranked.length ? rankOf(ranked[0]) : 1;
    // The best group, as `standings.best_group` finds it: a score below that of a separated stack is outside.
    const separated = ranked.filter(stack => rankOf(stack) > rank);
    return { score: Math.max(...open.map(scoreOf)), rank, bound: Math.max(-Infinity, ...separated.map(scoreOf)) };
  });
  const rows = stacks.map(stack => {
    const cells = members.map((summary, i) => {
      const score = summary.scores[stack]?.[index] ?? null, rank = summary.ranks[stack]?.[index] ?? null;
      if (!score) return null;
      const baseline = summary.scores.cross_entropy?.[index];
      return {
        score, ranked: rank !== null, unstable: summary.unstable[index].includes(stack), gap: best[i].score - score[0], tied: rank !== null && rank <= best[i].rank && score[0] >= best[i].bound,
        below: Boolean(baseline) && score[0] < baseline[0], isBest: !summary.privileged[stack] && inPoints(score[0]) === inPoints(best[i].score),
      };
    });
    const found = cells.filter(Boolean), times = members.flatMap(({ seconds }) => seconds[stack] && seconds.cross_entropy ? [Math.log(seconds[stack] / seconds.cross_entropy)] : []);
    const sum = values => values.reduce((total, value) => total + value, 0);
    return {
      stack, cells, needs: needsOf(members, stack), first: found.some(cell => cell.ranked) ? found.filter(cell => cell.tied).length : null, count: found.length,
      average: found.length === members.length ? sum(found.map(cell => cell.score[0])) / found.length : null,
      time: times.length ? Math.exp(sum(times) / times.length) : null,
    };
  }).filter(row => row.count);
  const worth = row => row.average ?? row.count / members.length - 2;
  return rows.sort((a, b) => worth(b) - worth(a) || a.stack.localeCompare(b.stack));
}
const times = value => value === null ? "–" : `${fixed(value, value < 10 ? 1 : 0)} ×`;

function drawMatrix(parent, name, members, labels, rows, stress, limit = MAX_COLUMNS, hidesFew = true) {
  const few = hidesFew ? rows.filter(row => 2 * row.count < members.length) : [];
  if (few.length) {
    const text = element("p", parent, `${few.length === 1 ? "1 method has" : `${few.length} methods have`} runs in fewer than half of the settings: not shown. `, { class: "note" }), button = element("button", text, "Show all methods", { type: "button", class: "plain few" });
    const box = element("div", parent);
    button.onclick = () => { text.remove(); box.replaceChildren(); drawMatrix(box, name, members, labels, rows, stress, limit, false); box.querySelector(".scroll").focus(); };
    drawMatrix(box, name, members, labels, rows.filter(row => !few.includes(row)), stress, limit, false);
    return;
  }
  if (members.length > limit) {
    const text = element("p", parent, `${limit} of ${members.length} settings; averages are over all of them. `, { class: "note" }), button = element("button", text, "Show all", { type: "button", class: "plain" });
    button.onclick = () => { const kept = [text, text.nextSibling], all = element("div", parent); parent.insertBefore(all, text); drawMatrix(all, name, members, labels, rows, stress, Infinity, false); for (const old of kept) old.remove(); all.querySelector(".scroll").focus(); };
  }
  const several = members.length > 1, top = Math.max(...rows.filter(row => !row.needs.length).map(row => row.average ?? -1));
  const region = element("div", parent, "", { class: "scroll", tabindex: 0, role: "region", "aria-label": name });
  const table = element("table", region, "", { class: "matrix" }), head = element("tr", element("thead", table)), body = element("tbody", table);
  const heading = (text, hint, kind = "") => element("th", head, text, { scope: "col", class: kind, title: hint });
  heading("method", "Stack of mitigations", "text");
  if (several) heading("average", "Mean score over these settings; only for methods with runs in all of them. Higher is better.");
  if (several) heading("first", "Settings in which the method is in the best rank group. Higher is better.");
  members.slice(0, limit).forEach((summary, i) => {
    const th = element("th", head, "", { scope: "col", class: "setting" });
    element("a", th, labels[i], { href: addressOf({ view: "boards", setting: summary.key }), title: `${summary.title}\n${summary.network}, ${summary.epochs} epochs` });
  });
  heading("time", "Time of a run relative to cross-entropy. Lower is better.");
  for (const { noise, table: cards } of stress) {
    heading(`area, ${noise}`, `Stress card by ${cards.rule}: mean score over noise rates up to ${fixed(100 * cards.rates.at(-1), 0)} %. Higher is better.`, "setting");
    heading(`breakdown, ${noise}`, "Stress card: last noise rate in percent at which the method is not below cross-entropy at half that rate. Higher is better.", "setting");
  }
  for (const row of rows) {
    const tr = element("tr", body), first = element("th", tr, "", { scope: "row", class: "text" });
    element("span", first, shortName(row.stack), { title: row.stack });
    if (row.needs.length) element("small", first, `needs ${row.needs.join(", ")}`);
    if (several) element("td", tr, row.average === null ? `${row.count} of ${members.length}` : inPoints(row.average), { class: row.average === null ? "note" : !row.needs.length && inPoints(row.average) === inPoints(top) ? "best" : "" });
    if (several) element("td", tr, row.first === null ? "–" : `${row.first}/${row.count}`);
    row.cells.slice(0, limit).forEach((cell, i) => drawCell(tr, cell, row, members[i], labels[i]));
    element("td", tr, times(row.time));
    for (const { table: cards } of stress) {
      const at = cards.cards.findIndex(card => card.stack === row.stack), area = cards.text.columns.indexOf("area");
      element("td", tr, at < 0 ? "–" : cards.cards[at].area === null ? "–" : inPoints(cards.cards[at].area[0]));
      element("td", tr, at < 0 ? "–" : cards.text.rows[at][area + 1].split(" ")[0]);
    }
  }
}
function drawCell(tr, cell, row, summary, label) {
  if (!cell) { element("td", tr, "–", { class: "note" }); return; }
  const td = element("td", tr, "", { class: `heat-${heatOf(cell.gap)}${cell.tied ? " tied" : ""}${cell.isBest ? " best" : ""}` });
  const distance = cell.gap > 0 ? `${inPoints(cell.gap)} points below the best` : cell.gap < 0 ? `${inPoints(-cell.gap)} points above the best without privileged information` : "the best";
  const hint = `${row.stack} on ${label}: ${points(cell.score)}, ${distance}${cell.tied && cell.gap !== 0 ? ", in its rank group" : ""}${cell.unstable ? ", unstable over seeds" : ""}${cell.below ? ", below cross-entropy" : ""}`;
  element("a", td, (cell.unstable ? "~ " : "") + inPoints(cell.score[0]) + (cell.below ? " ▾" : ""), { href: addressOf({ view: "boards", setting: summary.key }), title: hint, "aria-label": hint });
}
// The signs that the cells of the rows have.
function drawLegend(parent, rows) {
  const cells = rows.flatMap(row => row.cells.filter(Boolean));
  const legend = element("p", parent, "", { class: "legend note" });
  element("span", legend, "Points below the best without privileged information: ");
  ["0", "≤ 1", "≤ 2", "≤ 5", "≤ 10", "≤ 20", "more"].forEach((text, i) => element("span", legend, text, { class: `key heat-${i}` }));
  element("span", legend, " outlined: ", { class: "gap" });
  element("span", legend, "same rank group as the best", { class: "key tied" });
  if (cells.some(cell => cell.unstable)) element("span", legend, " ~ unstable over seeds, so that few differences from it are significant", { class: "gap" });
  if (cells.some(cell => cell.below)) element("span", legend, " ▾ below cross-entropy", { class: "gap" });
}
