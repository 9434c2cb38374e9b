
// ---- fidelity cards and licenses

function drawFidelity(view) {
  const cards = sectionOf("cards"), licenses = sectionOf("licenses");
  view.replaceChildren();
  element("p", view, "How true the mitigations, noise models and metrics of this board are to their references: the numbers that were compared, the largest " +
    "difference, and every known deviation. `noisybench describe NAME` shows the card of any component.", { class: "note" });
  for (const kind of new Set(cards.map(card => card[0]))) {
    element("h2", view, kind);
    tableOf(view, ["name", "reference", "compared or tested", "largest difference", "deviations"], cards.filter(card => card[0] === kind).map(card => card.slice(1)));
  }
  if (licenses.length) {
    element("h2", view, "Licenses of data");
    tableOf(view, ["dataset or noise model", "license", "page", "access", "note"], licenses);
  }
}
registerView("fidelity", "Fidelity", drawFidelity);
