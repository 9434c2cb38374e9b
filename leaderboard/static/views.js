
// ---- other views

const ruleOf = group => group.rules[state.rule] ? state.rule : Object.keys(group.rules)[0];

function drawAcross() {
  const view = byId("view-across");
  view.replaceChildren();
  for (const group of board.verdicts) drawVerdict(view, group);
  element("h2", view, "Average ranks");
  element("p", view, "Stacks over all settings with the same budget and the same stacks: average ranks (1 is best in every setting), Friedman's test (Iman and Davenport's F) that " +
    "all stacks are equal, and Nemenyi's critical difference at 5 %. Stacks joined by a bar are not separated.", { class: "note" });
  if (!board.across_settings.length) element("p", view, "No two settings share a budget and at least three stacks yet.");
  for (const group of board.across_settings) {
    const rule = ruleOf(group), { ranks, p, difference, unseparable } = group.rules[rule];
    element("h2", view, group.title);
    element("p", view, `${group.settings.length} settings, by ${rule}. Friedman's test: ${pText(p)}. Critical difference: ${difference.toFixed(2)} ranks.`);
    if (unseparable) element("p", view, unseparable);
    else drawDiagram(view, Object.entries(ranks), difference, group.title);
    const list = element("p", view, "Settings: ", { class: "note" });
    group.settings.forEach((key, i) => {
      element("a", list, summaryOf(key).title, { href: addressOf({ view: "setting", setting: key }) });
      if (i + 1 < group.settings.length) element("span", list, "; ");
    });
  }
  for (const group of board.noise_draws) drawNoiseDraws(view, group);
}
const signed = value => value === null ? "" : (value > 0 ? "+" : "") + (100 * value).toFixed(1);
function drawVerdict(view, group) {
  const rule = ruleOf(group), { sentences, rows } = group.rules[rule], [first, ...others] = sentences;
  element("h2", view, `Verdict by ${rule}: ${group.title}`);
  element("p", view, first);
  element("p", view, others.join(" "), { class: "note" });
  const list = element("details", view);
  element("summary", list, "All stacks");
  tableOf(list, ["stack", "probability of being best", `points against ${rows[0][0]}`, "95 % interval"], rows.map(([stack, probability, difference, low, high]) =>
    [stack, probability === null ? "has privileged information" : probability.toFixed(2), signed(difference), low === null ? "" : `${signed(low)} to ${signed(high)}`]));
}
function drawNoiseDraws(view, group) {
  const rule = ruleOf(group), { rows, detectable } = group.rules[rule];
  element("h2", view, `${group.title}, over ${group.settings.length} draws of the noise`);
  element("p", view, `Each draw is one block with the mean over its seeds, by ${rule}. Ranks are computed as within a setting. ${detectable}`, { class: "note" });
  tableOf(view, ["rank", "stack", rule, "95 % interval over draws", ...group.settings.map((_, i) => `draw ${i + 1}`)],
    rows.map(([rank, stack, summary, draws]) =>
      [rank, stack, points(summary), interval(summary).replace("95 % interval ", ""), ...draws.map(score => (100 * score).toFixed(1))]));
}
function drawPublished() {
  const view = byId("view-published"), rows = [];
  view.replaceChildren();
  element("p", view, "Published results beside ours for the same data and noise. Protocols and networks often differ: check both before comparing.", { class: "note" });
  for (const summary of board.settings.filter(each => each.published)) {
    for (const row of detailOf(summary.key).rows) {
      for (const result of row.published) {
        rows.push([
          summary.title, row.stack, `${result[0]}${result[1] === null ? "" : " ± " + result[1]}`, `${result[2]}, ${result[3]}`,
          `${points(row.last)} last; ${points(row.oracle)} oracle`, `${summary.network}, ${summary.epochs} epochs`, result[5],
        ]);
      }
    }
  }
  if (rows.length) tableOf(view, ["setting", "stack", "published", "protocol, network", "ours", "our budget", "source"], rows);
  else element("p", view, "No setting here is reported in papers, which use the full CIFAR datasets or full sets of crawled images.");
  drawReproduction(view);
}
function drawReproduction(view) {
  element("h2", view, "Reproduction of published results");
  const [head, ...lines] = board.reproduction, last = head.length - 1, counts = new Map();
  for (const line of lines) counts.set(line[last], (counts.get(line[last]) ?? 0) + 1);
  element("p", view, "Every published result of an implemented method, beside what was measured on the same data, noise, network and protocol. " +
    `Ours: mean ± standard deviation (seeds). Difference in standard deviations. ${[...counts].map(([status, count]) => `${count} ${status}`).join(", ")}.`, { class: "note" });
  const bar = element("div", view, "", { class: "bar" });
  const find = element("input", element("label", bar, "Search "), "", { type: "search", placeholder: "method, data, status …" });
  const table = element("div", view);
  const list = () => {
    const wanted = words(find);
    table.replaceChildren();
    tableOf(table, head, lines.filter(line => wanted.every(word => line.join(" ").toLowerCase().includes(word))));
  };
  find.oninput = list;
  list();
}
function drawExcluded() {
  const view = byId("view-excluded");
  view.replaceChildren();
  element("p", view, "Runs and stacks that are in no table, or are not ranked there.", { class: "note" });
  if (board.excluded.length) tableOf(view, ["run or stack", "reason"], board.excluded.map(each => [each.what, each.why]));
  else element("p", view, "No run is excluded.");
  element("p", view, "Trials of hyperparameter searches are never shown: only the final runs of a search are ranked, with seeds that no trial has used.", { class: "note" });
}
function drawFidelity() {
  const view = byId("view-fidelity");
  view.replaceChildren();
  element("p", view, "How true the mitigations, noise models and metrics of this board are to their references: the numbers that were compared, the largest " +
    "difference, and every known deviation. `noisybench describe NAME` shows the card of any component.", { class: "note" });
  for (const kind of new Set(board.cards.map(card => card[0]))) {
    element("h2", view, kind);
    tableOf(view, ["name", "reference", "compared or tested", "largest difference", "deviations"], board.cards.filter(card => card[0] === kind).map(card => card.slice(1)));
  }
  if (board.licenses.length) {
    element("h2", view, "Licenses of data");
    tableOf(view, ["dataset or noise model", "license", "page", "access", "note"], board.licenses);
  }
}
function draw() {
  readAddress();
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== `view-${state.view}`;
  for (const link of document.querySelectorAll("nav a")) {
    const view = new URLSearchParams(link.getAttribute("href").slice(1)).get("view");
    link.href = addressOf({ view });
    if (view === state.view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  ({ setting: drawSetting, across: drawAcross, stress: drawStress, published: drawPublished, excluded: drawExcluded, fidelity: drawFidelity, guide: () => {} })[state.view]();
}

// ---- events

fill(byId("rule"), rules.map(rule => [rule, rule]), state.rule);
byId("settings").onchange = () => { order = ["rank", 1]; navigate({ setting: byId("settings").value }); };
byId("rule").onchange = () => navigate({ rule: byId("rule").value });
byId("find").oninput = listSettings;
for (const id of ["stack", "privileged", "seeds", "cost"]) byId(id).oninput = () => { drawTable(); drawPlots(); };
byId("first").onchange = byId("second").onchange = drawPair;
byId("theme").onclick = switchTheme;
document.querySelector(".skip").onclick = event => { event.preventDefault(); byId("table").querySelector("button")?.focus(); };
addEventListener("hashchange", draw);
// The data of the settings follow this script, so the first drawing waits for them.
addEventListener("DOMContentLoaded", draw);
