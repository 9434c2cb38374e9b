
// ---- published results, grouped by the paper that reports them

// Columns of the section that are shown, the most important ones first, and those of results that were not run.
const shownColumns = ["data", "noise", "method", "published", "ours", "difference (σ)", "status", "protocol", "network", "our stack", "protocol differences"];
const columnsNotRun = ["data", "noise", "method", "published", "protocol", "network", "our stack"];
function drawPublished(view) {
  const { columns, groups } = sectionOf("reproduction"), counts = new Map();
  view.replaceChildren();
  for (const group of groups) for (const [status, count] of Object.entries(group.counts)) counts.set(status, (counts.get(status) ?? 0) + count);
  element("p", view, "Published results of implemented methods, beside what was measured on the same data, noise, network and protocol. Ours: mean ± standard deviation (seeds). " +
    `Difference in standard deviations. ${countsText(Object.fromEntries(counts))}.`, { class: "note" });
  const bar = element("div", view, "", { class: "bar" });
  const find = element("input", element("label", bar, "Search "), "", { type: "search", placeholder: "method, data, status …", autocomplete: "off" });
  const lists = element("div", view);
  find.value = state.published;
  const list = () => {
    note({ published: find.value });
    const wanted = words(find), matching = rows => rows.filter(row => wanted.every(word => row.join(" ").toLowerCase().includes(word)));
    lists.replaceChildren();
    const shown = groups.map(group => drawPublication(lists, group, columns, matching(group.measured), matching(group.not_run), wanted.length > 0));
    if (!shown.includes(true)) element("p", lists, "Nothing found. Search for a method such as “ELR” or a dataset such as “cifar10n”.");
  };
  find.oninput = list;
  list();
  drawSameSettings(view);
}
const countsText = counts => Object.entries(counts).map(([status, count]) => `${count} ${status}`).join(", ");
// Returns whether a row of the publication was found.
function drawPublication(parent, group, columns, measured, notRun, isSearch) {
  if (!measured.length && !notRun.length) return false;
  const title = element("h2", parent);
  external(title, group.url, group.title);
  element("p", parent, [group.subtitle, countsText(group.counts)].filter(Boolean).join(". ") + ".", { class: "note" });
  const chosen = (names, row) => names.map(name => row[columns.indexOf(name)]);
  if (measured.length) tableOf(parent, shownColumns, measured.map(row => chosen(shownColumns, row)));
  if (!notRun.length) return true;
  const rest = element("details", parent);
  element("summary", rest, `${notRun.length} not run${isSearch ? " that match" : ""}`);
  // Built when it is opened: hundreds of rows would be drawn for nothing.
  rest.ontoggle = () => { if (rest.open && rest.children.length === 1) tableOf(rest, columnsNotRun, notRun.map(row => chosen(columnsNotRun, row))); };
  return true;
}
function drawSameSettings(view) {
  element("h2", view, "All published results for the settings of this board");
  const rows = [];
  for (const summary of board.settings.filter(each => each.published)) {
    for (const row of detailOf(summary.key).rows) {
      for (const result of row.published) {
        rows.push([
          shortTitle(summary), shortName(row.stack), `${result[0]}${result[1] === null ? "" : " ± " + result[1]}`, `${result[2]}, ${result[3]}`,
          `${points(row.last)} last; ${points(row.oracle)} oracle`, `${summary.network}, ${summary.epochs} epochs`, result[5],
        ]);
      }
    }
  }
  if (!rows.length) { element("p", view, "No setting here is reported in papers, which use the full CIFAR datasets or full sets of crawled images."); return; }
  element("p", view, "Whatever their protocol and network, which often differ: check both before comparing.", { class: "note" });
  tableOf(view, ["setting", "stack", "published", "protocol, network", "ours", "our budget", "source"], rows);
}
registerView("published", "Published results", drawPublished, { published: "" });
