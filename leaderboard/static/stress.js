
// ---- stress cards: a table for each noise model, and one small plot for each stack beside cross-entropy

function drawStress(view) {
  const groups = sectionOf("stress");
  view.replaceChildren();
  element("p", view, "How the score of each stack falls as the noise rate rises. Area: mean score over the range of rates. Breakdown: last rate, in percent, at which " +
    "the stack is not below cross-entropy at half that rate, interpolated linearly between measured rates; a sign > means beyond the largest of them. Cost on clean: points that " +
    "cross-entropy is above the stack on clean labels. Worst class: lowest recall of a class at the highest rate. 95 % intervals over seeds, for these label sets. Dashed in the figures: cross-entropy.", { class: "note" });
  if (!groups.length) element("p", view, "No two settings here differ in the noise rate alone.");
  for (const group of groups) {
    const rule = ruleOf(group), table = group.rules[rule], { columns, rows } = table.text;
    element("h2", view, group.title);
    element("p", view, `By ${rule}; rates are measured fractions of mislabeled training examples.`, { class: "note" });
    tableOf(view, columns, rows);
    if (table.left_out.length) element("p", view, `Not shown: ${table.left_out.join("; ")}.`, { class: "note" });
    drawMultiples(view, table);
  }
}
function drawMultiples(view, table) {
  const known = table.cards.flatMap(card => card.curve.filter(score => score !== null));
  const ends = known.flatMap(([mean, , low, high]) => [low ?? mean, high ?? mean]), baseline = table.cards.find(card => card.stack === "cross_entropy");
  const range = [Math.max(0, Math.min(...known.map(score => score[0])) - 0.02), Math.min(1, Math.max(...ends))];
  const grid = element("div", view, "", { class: "plots multiples" });
  for (const card of table.cards) {
    if (card === baseline && table.cards.length > 1) continue;
    const plot = chart(grid, card.stack, "noise rate", [0, table.rates.at(-1)], extent(range), asPercent, asPercent);
    if (baseline && baseline !== card) drawStressCurve(plot, table.rates, baseline, "baseline");
    drawStressCurve(plot, table.rates, card, "stress");
  }
}
function drawStressCurve({ svg, px, py }, rates, card, kind) {
  const pairs = rates.map((rate, i) => [rate, card.curve[i]]).filter(([, score]) => score !== null), bottom = 222;
  const d = pairs.map(([u, [v]], i) => `${i ? "L" : "M"}${px(u).toFixed(1)} ${py(v).toFixed(1)}`).join("");
  element("title", element("path", svg, "", { d, class: `curve ${kind}` }), card.stack);
  for (const [u, [v, , low, high]] of pairs) {
    if (low !== null) element("line", svg, "", { x1: px(u), x2: px(u), y1: Math.min(bottom, py(low)), y2: Math.max(14, py(high)), class: `curve ${kind}` });
    element("title", element("circle", svg, "", { cx: px(u), cy: py(v), r: 3, class: kind }), `${card.stack}: ${(100 * v).toFixed(1)} at ${(100 * u).toFixed(0)} %`);
  }
}
registerView("stress", "Stress cards", drawStress);
