
// ---- comparisons across settings

function drawAcross(view) {
  view.replaceChildren();
  element("p", view, "Stacks over all settings with the same budget and the same stacks: average ranks (1 is best in every setting), Friedman's test (Iman and Davenport's F) that " +
    "all stacks are equal, and Nemenyi's critical difference at 5 %. Stacks joined by a bar are not separated.", { class: "note" });
  if (!sectionOf("across").length) element("p", view, "No two settings share a budget and at least three stacks yet.");
  for (const group of sectionOf("across")) {
    const rule = ruleOf(group), { ranks, p, difference, unseparable } = group.rules[rule];
    element("h2", view, group.title);
    element("p", view, `${group.settings.length} settings, by ${rule}. Friedman's test: ${pText(p)}. Critical difference: ${difference.toFixed(2)} ranks.`);
    if (unseparable) element("p", view, unseparable);
    else drawDiagram(view, Object.entries(ranks), difference, group.title);
    const list = element("p", view, "Settings: ", { class: "note" });
    group.settings.forEach((key, i) => {
      element("a", list, summaryOf(key).title, { href: addressOf({ view: "boards", setting: key }) });
      if (i + 1 < group.settings.length) element("span", list, "; ");
    });
  }
  for (const group of sectionOf("draws")) drawNoiseDraws(view, group);
}
function drawNoiseDraws(view, group) {
  const rule = ruleOf(group), { rows, detectable } = group.rules[rule];
  element("h2", view, `${group.title}, over ${group.settings.length} draws of the noise`);
  element("p", view, `Each draw is one block with the mean over its seeds, by ${rule}. Ranks are computed as within a setting. ${detectable}`, { class: "note" });
  tableOf(view, ["rank", "stack", rule, "95 % interval over draws", ...group.settings.map((_, i) => `draw ${i + 1}`)],
    rows.map(([rank, stack, summary, draws]) =>
      [rank, stack, points(summary), interval(summary).replace("95 % interval ", ""), ...draws.map(score => (100 * score).toFixed(1))]));
}
registerView("across", "Across settings", drawAcross);
