
// ---- facets: the settings that all views show

const facetTitles = { dataset: "Dataset", noise: "Noise", rate: "Noise rate", network: "Network", task: "Task", source: "Runs" };
Object.assign(defaults, Object.fromEntries(Object.keys(facetTitles).map(facet => [facet, ""])));

const passesFacet = (summary, facet) => !state[facet] || summary.facets[facet] === state[facet];
const chosenSettings = () => board.settings.filter(summary => Object.keys(facetTitles).every(facet => passesFacet(summary, facet)));

// Controls of the facets and of the selection rule; a facet with one value has none.
function drawControls(parent) {
  const bar = element("div", parent, "", { class: "bar" }), chosen = chosenSettings();
  const rule = element("select", element("label", bar, "Selection rule "), "", { class: "rule" });
  fill(rule, rules.map(name => [name, name]), state.rule);
  rule.onchange = () => navigate({ rule: rule.value });
  const shown = Object.keys(facetTitles).filter(facet => new Set(board.settings.map(summary => summary.facets[facet])).size > 1);
  if (!shown.length) return;
  const active = shown.filter(facet => state[facet]).length;
  const folded = element("details", parent, "", { class: "facets" });
  element("summary", folded, "Filter settings" + (active ? ` (${chosen.length} of ${board.settings.length})` : ""));
  folded.open = active > 0 || matchMedia("(min-width: 641px)").matches;
  const facets = element("div", folded, "", { class: "bar" });
  for (const facet of shown) {
    // The numbers are those of the settings that the other facets leave.
    const others = board.settings.filter(summary => shown.every(name => name === facet || passesFacet(summary, name)));
    const counts = new Map();
    for (const summary of others) counts.set(summary.facets[facet], (counts.get(summary.facets[facet]) ?? 0) + 1);
    if (state[facet] && !counts.has(state[facet])) counts.set(state[facet], 0);
    const options = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([value, count]) => [value, `${value} (${count})`]);
    const select = element("select", element("label", facets, `${facetTitles[facet]} `), "", { "data-facet": facet });
    fill(select, [["", "any"], ...options], state[facet]);
    select.onchange = () => navigate({ [facet]: select.value });
  }
  if (active) {
    const reset = element("button", facets, "Show all", { type: "button", class: "plain" });
    reset.onclick = () => navigate(Object.fromEntries(shown.map(facet => [facet, ""])));
  }
}
