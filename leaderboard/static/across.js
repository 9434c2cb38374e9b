
// ---- comparisons across settings

function drawAcross(view) {
  view.replaceChildren();
  element("p", view, "Stacks over all settings with the same budget and the same stacks: average ranks (1 is best in every setting), Friedman's test (Iman and Davenport's F) that " +
    "all stacks are equal, and Nemenyi's critical difference at 5 %. Stacks joined by a bar are not separated.", { class: "note" });
  if (!sectionOf("across").length) element("p", view, "No two settings share a budget and at least three stacks yet.");
  for (const group of sectionOf("across")) {
    const rule = ruleOf(group), { ranks, p, difference, unseparable } = group.rules[rule];
    element("h2", view, group.title);
    element("p", view, `${group.settings.length} settings, by ${rule}. Friedman's test: ${pText(p)}. Critical difference: ${fixed(difference, 2)} ranks.`);
    if (unseparable) element("p", view, unseparable);
    else drawDiagram(view, Object.entries(ranks), difference, group.title);
    const list = element("p", view, "Settings: ", { class: "note" });
    group.settings.forEach((key, i) => {
      element("a", list, group.labels[i], { title: summaryOf(key).title, href: addressOf({ view: "boards", setting: key }) });
      if (i + 1 < group.settings.length) element("span", list, "; ");
    });
  }
  for (const group of sectionOf("draws")) drawNoiseDraws(view, group);
}
// Critical-difference diagram (Demšar, 2006): stacks joined by a bar are not separated.
function drawDiagram(parent, ranks, difference, title) {
  const count = ranks.length, left = Math.ceil(count / 2), x = r => 290 + (r - 1) / Math.max(1, count - 1) * 260;
  const groups = [], names = shortened(ranks.map(([stack]) => shortName(stack)), 36);
  for (let i = 0; i < count; i++) {
    let j = i;
    while (j + 1 < count && ranks[j + 1][1] - ranks[i][1] <= difference) j++;
    if (j > i && !groups.some(group => group[1] >= j)) groups.push([i, j]);
  }
  const top = 40 + 9 * groups.length, height = top + 20 * left + 16;
  const figure = element("figure", parent);
  element("figcaption", figure, "Average ranks with critical difference");
  const svg = element("svg", element("div", figure, "", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Average ranks: ${title}` }), "", { viewBox: `0 0 840 ${height}`, role: "img", "aria-label": `Critical-difference diagram: ${title}` });
  svg.style.maxWidth = "67rem";
  svg.style.minWidth = "44rem";
  element("line", svg, "", { stroke: "var(--line)", x1: x(1), x2: x(count), y1: 26, y2: 26 });
  for (let r = 1; r <= count; r++) element("text", svg, r, { x: x(r), y: 16, "text-anchor": "middle" });
  groups.forEach(([i, j], number) => element("line", svg, "", { stroke: "var(--text)", "stroke-width": 4, x1: x(ranks[i][1]) - 4, x2: x(ranks[j][1]) + 4, y1: 36 + 9 * number, y2: 36 + 9 * number }));
  ranks.forEach(([stack, rank], i) => {
    const onLeft = i < left, y = top + 20 * (onLeft ? i : count - 1 - i) + 10, end = onLeft ? 282 : 558;
    element("path", svg, "", { stroke: "var(--line)", fill: "none", d: `M${x(rank)} 26V${y}H${end}` });
    const label = element("text", svg, `${names.get(shortName(stack))} ${fixed(rank, 2)}`, { class: "name", x: onLeft ? end - 16 : end + 16, y: y + 4, "text-anchor": onLeft ? "end" : "start" });
    element("title", label, stack);
    drawMark(svg, stack, onLeft ? end - 7 : end + 7, y, 4);
  });
}
function drawNoiseDraws(view, group) {
  const rule = ruleOf(group), { rows, detectable } = group.rules[rule];
  element("h2", view, `${group.title}, over ${group.settings.length} draws of the noise`);
  element("p", view, `Each draw is one block with the mean over its seeds, by ${rule}. Ranks are computed as within a setting. ${detectable}`, { class: "note" });
  tableOf(view, ["rank", "stack", rule, "95 % interval over draws", ...group.settings.map((_, i) => `draw ${i + 1}`)],
    rows.map(([rank, stack, summary, draws]) =>
      [rank, shortName(stack), points(summary), interval(summary).replace("95 % interval ", ""), ...draws.map(score => fixed(100 * score, 1))]));
}
registerView("across", "Across settings", drawAcross);
