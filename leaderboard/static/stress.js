
// ---- stress cards: a table for each noise model, and one small plot for each stack beside cross-entropy

function drawStress(view) {
  const groups = sectionOf("stress");
  view.replaceChildren();
  element("p", view, "How the score of each stack falls as the noise rate rises. Area: mean score over the range of rates. Breakdown: last rate, in percent, at which " +
    "the stack is not below cross-entropy at half that rate, interpolated linearly between measured rates; a sign > means beyond the largest of them. Cost on clean: points that " +
    "cross-entropy is above the stack on clean labels. Worst class: lowest recall of a class at the highest rate. 95 % intervals over seeds, for these label sets. Gray in the figures: cross-entropy; bands: 95 % intervals.", { class: "note" });
  if (!groups.length) element("p", view, "No two settings here differ in the noise rate alone.");
  for (const group of groups) {
    const rule = ruleOf(group), table = group.rules[rule], { columns, rows } = table.text;
    element("h2", view, group.title);
    element("p", view, `By ${rule}; rates are measured fractions of mislabeled training examples.`, { class: "note" });
    tableOf(view, columns, rows.map(([stack, ...cells]) => [inWords(stack), ...cells]));
    if (table.left_out.length) prose(element("p", view, "", { class: "note" }), `Not shown: ${table.left_out.join("; ")}.`);
    drawMultiples(view, table);
  }
}
function drawMultiples(view, table) {
  const known = table.cards.flatMap(card => card.curve.filter(score => score !== null)), baseline = table.cards.find(card => card.stack === "cross_entropy");
  const y = fractions(known.flatMap(([mean, , low, high]) => [mean, low ?? mean, high ?? mean])), grid = element("div", view, "", { class: "plots multiples" });
  for (const card of table.cards) {
    if (card === baseline && table.cards.length > 1) continue;
    const series = [...new Set([baseline, card])].filter(Boolean).map(each => stressSeries(each, table.rates));
    lineChart(grid, shortName(card.stack), { series, named: false, xName: "noise rate", x: [0, table.rates.at(-1)], y, xFormat: asPercent, yFormat: asPercent });
  }
}
function stressSeries(card, rates) {
  const measured = rates.map((rate, i) => [rate, card.curve[i]]).filter(([, score]) => score !== null);
  return {
    stack: card.stack, isOpen: card.privileged,
    points: measured.map(([rate, [score, , low, high]]) => [rate, score, low, high, `${shortName(card.stack)}: ${inPercent(score)}${between([, , low, high], inPercent)} at ${inPercent(rate)}`]),
  };
}
registerView("stress", "Stress cards", drawStress);
