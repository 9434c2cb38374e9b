
// ---- the answer: which method to use

const MAX_STRESS = 2;  // noise models whose stress cards stand beside a matrix
const ends = ({ low, high }, sign = 1) => low === null ? "" : ` [${[sign * low, sign * high].sort((a, b) => a - b).map(value => fixed(100 * value, 1).replace("-", "−")).join(", ")}]`;
// Groups by the chosen rule; settings that have none by it are shown by another one.
function answerGroups() {
  const chosen = new Set(chosenSettings().map(summary => summary.key)), all = sectionOf("answer");
  const covered = new Set(all.filter(group => group.rules[state.rule]).flatMap(group => group.settings));
  const shown = all.filter(group => group.rules[state.rule] || !group.settings.some(key => covered.has(key)));
  return shown.filter(group => group.settings.some(key => chosen.has(key)));
}
// The group whose answer a setting belongs to: of several, that with the most methods.
const answerOf = key => sectionOf("answer").filter(group => !group.overall && group.rules[state.rule] && group.settings.includes(key))
  .reduce((most, group) => most && most.rules[state.rule].answer.num_stacks >= group.rules[state.rule].answer.num_stacks ? most : group, undefined);
function drawAnswer(view) {
  view.replaceChildren();
  if (!board.settings.length) {
    element("p", view, "No finished runs yet. Create some with: noisybench bench quickstart");
    return;
  }
  const groups = answerGroups();
  element("h2", view, "Which method should I use?", { class: "question" });
  if (groups.length > 1) drawGlance(view, groups);
  const controls = element("div", view, "", { class: "controls" });
  groups.forEach((group, i) => drawGroup(view, group, i, groups.length <= 3 || i < 2));
  drawControls(controls);
  if (!groups.length) element("p", view, "No settings pass the filters, or none of them has two methods.");
  const alone = chosenSettings().filter(summary => !sectionOf("answer").some(group => group.settings.includes(summary.key)));
  if (alone.length) {
    const list = element("p", view, "With a single method, so without an answer: ", { class: "note" });
    alone.forEach((summary, i) => { if (i) element("span", list, "; "); element("a", list, shortTitle(summary), { href: addressOf({ view: "boards", setting: summary.key }) }); });
  }
}
// One line for each group, so that the answers are seen before their evidence.
function drawGlance(view, groups) {
  const list = element("ul", view, "", { class: "glance" });
  groups.forEach((group, i) => {
    const item = element("li", list), { headline, answer } = group.rules[ruleOf(group)];
    const link = element("a", item, group.short, { href: `#group-${i}`, title: group.title });
    link.onclick = event => { event.preventDefault(); const target = byId(`group-${i}`); target.querySelector("details").open = true; target.scrollIntoView(); target.focus(); };
    element("span", item, ": ");
    element("b", item, headline);
    if (answer.gain) element("span", item, `, ${signed(answer.gain.difference)} points over cross-entropy`);
  });
}
function drawGroup(view, group, number, isOpen) {
  const rule = ruleOf(group), { answer, claim: [subject, predicate], sentences, rows } = group.rules[rule];
  const article = element("article", view, "", { class: "answer", id: `group-${number}`, tabindex: -1, "aria-label": group.short });
  const scope = element("p", article, `${group.short} `, { class: "scope", title: group.title });
  element("button", scope, "Cite", { type: "button", class: "tool", "aria-haspopup": "dialog", "aria-label": `Cite everything behind ${group.short}` }).onclick = () => cite(group.settings);
  const claim = element("p", article, "", { class: "claim" });
  element("b", claim, subject, answer.equal.length ? {} : { title: answer.leader });
  element("span", claim, ` ${predicate}`);
  drawTiles(article, answer, group, rule);
  const chosen = new Set(chosenSettings().map(summary => summary.key)), place = group.settings.map((_, i) => i).filter(i => chosen.has(group.settings[i]));
  const members = place.map(i => summaryOf(group.settings[i])), labels = place.map(i => group.labels[i]), table = matrixOf(members, rule);
  drawRanking(article, table, members.length);
  const folded = element("details", article, "", { class: "table" });
  element("summary", folded, `${members.length === 1 ? "Scores" : `All ${members.length} settings`} by ${rule}`);
  folded.open = isOpen && matchMedia("(min-width: 641px)").matches;
  const stress = stressOf(members, rule), beside = stress.length <= MAX_STRESS ? stress : [];
  drawMatrix(folded, `Methods and settings of answer ${number + 1}`, members, labels, table, beside);
  drawLegend(folded, table);
  if (stress.length) element("a", element("p", folded, "Scores over the noise rate: "), "stress cards", { href: addressOf({ view: "stress" }) });
  if (sentences.length) drawEvidence(article, sentences, rows);
}
function drawTiles(article, answer, group, rule) {
  const tiles = element("dl", article, "", { class: "tiles" });
  const tile = (term, value, detail = "") => {
    const box = element("div", tiles);
    element("dt", box, term);
    element("dd", box, value);
    if (detail) element("dd", box, detail, { class: "note" });
  };
  const needs = contrast => contrast.needs.length ? `needs ${contrast.needs.join(", ").replaceAll("_", " ")}` : "";
  if (answer.gain) tile("Over cross-entropy", `${signed(answer.gain.difference)} points`, answer.gain.low === null ? "no interval: too few seeds" : `95 % interval${ends(answer.gain)}`);
  else if (answer.leader === "cross_entropy") tile("Over cross-entropy", "no method", "cross-entropy itself has the highest score");
  if (answer.probability !== null) {
    const value = answer.probability > 0.99 ? "above .99" : fixed(answer.probability, 2).replace(/^0/, "");
    tile("Probability of being best", value, answer.is_best ? `separated from all ${answer.num_stacks - 1} others, error at most 5 %` : `of ${answer.num_stacks}; not separated from ${answer.ties.length}`);
  }
  if (answer.ties.length) tile("Not separated from", answer.ties.slice(0, 3).map(shortName).join("; "), answer.ties.length > 3 ? `and ${answer.ties.length - 3} more` : "");
  if (answer.num_settings > 1) tile(answer.probability === null ? "Highest score in" : "First or tied in", `${answer.num_first} of ${answer.num_settings}`, "settings");
  if (answer.time !== null) tile("Cost", times(answer.time), "the time of cross-entropy");
  if (answer.runner_up && answer.runner_up.stack !== "cross_entropy") tile("Runner-up", shortName(answer.runner_up.stack), `${signed(-answer.runner_up.difference)} points${ends(answer.runner_up, -1)}`);
  if (answer.privileged) tile("With privileged information", shortName(answer.privileged.stack), `${signed(-answer.privileged.difference)} points${ends(answer.privileged, -1)}, ${needs(answer.privileged)}`);
}
// Shown on phones before the matrix: methods by average with a bar.
function drawRanking(article, rows, count) {
  const known = rows.map(row => row.average ?? row.cells.find(Boolean).score[0]), [low, high] = [Math.min(...known), Math.max(...known)];
  const list = element("ol", article, "", { class: "ranking" });
  rows.slice(0, 8).forEach((row, i) => {
    const item = element("li", list);
    element("span", item, shortName(row.stack), { title: row.stack });
    element("b", item, inPoints(known[i]));
    element("span", item, "", { class: "meter" }).style.width = `${10 + 90 * (known[i] - low) / (high - low || 1)}%`;
    if (row.needs.length) element("small", item, `needs ${row.needs.join(", ")}`);
    else if (count > 1 && row.first !== null) element("small", item, `first or tied in ${row.first} of ${row.count} settings`);
  });
}
// Stress cards that some of the settings belong to.
function stressOf(members, rule) {
  const tables = sectionOf("stress").flatMap(group => group.rules[rule] ? [group.rules[rule]] : []);
  return tables.filter(table => members.some(summary => summary.dataset === table.dataset && summary.budget === table.budget && summary.facets.noise === shortName(table.noise)))
    .map(table => ({ noise: shortName(table.noise), table }));
}
function drawEvidence(article, sentences, rows) {
  const list = element("details", article);
  element("summary", list, "How sure is this?");
  for (const sentence of sentences) prose(element("p", list, "", { class: "note" }), sentence);
  tableOf(list, ["method", "probability of being best", `points against ${shortName(rows[0][0])}`, "95 % interval"], rows.map(([stack, probability, difference, low, high]) =>
    [shortName(stack), probability === null ? "has privileged information" : fixed(probability, 2), difference === null ? "" : signed(difference), low === null ? "" : `${signed(low)} to ${signed(high)}`]));
}
registerView("answer", "Answer", drawAnswer);
