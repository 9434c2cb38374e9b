
// ---- published results

function drawPublished(view) {
  const rows = [];
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
  const [head, ...lines] = sectionOf("reproduction"), last = head.length - 1, counts = new Map();
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
registerView("published", "Published results", drawPublished);
