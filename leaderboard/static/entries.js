
// ---- entries: submissions with claim, author, verification and evidence

function drawEntries(view) {
  const entries = sectionOf("entries");
  view.replaceChildren();
  element("p", view, "Submitted runs on this board. A claim counts as claimed until a maintainer has computed its scores again from the predictions (re-scored), " +
    "or has also trained some of its runs again (re-run).", { class: "note" });
  if (!entries.length) element("p", view, "No submitted run is on this board. Package your own with: noisybench leaderboard package my-entry");
  for (const entry of entries) drawEntry(view, entry);
}
function drawEntry(view, entry) {
  const box = element("article", view, "", { class: "entry" });
  const title = element("h2", box, entry.name);
  element("span", title, entry.status, { class: `status ${entry.status}` });
  element("p", box, entry.claim || "The claim of this entry is not known here.");
  const list = element("dl", box, "", { class: "facts" });
  const fact = (name, value) => { element("dt", list, name); return element("dd", list, value); };
  fact("Author", entry.author || "not stated");
  fact("Date", entry.date || "not stated");
  fact("Version", `noisybench ${entry.version}`);
  fact("Verification", entry.stamp ? `${entry.status}; ${entry.stamp}` : entry.status);
  fact("Digest of the entry", entry.digest || "not known");
  fact("Code of the engine", entry.codes.join(", ") || "not recorded");
  external(fact("Evidence", ""), entry.evidence, entry.evidence || "records and predictions are not distributed");
  const details = element("details", fact("Runs", `${entry.runs} in `));
  element("summary", details, countOf(entry.settings.length));
  const places = element("ul", details);
  for (const position of entry.settings) linkSetting(element("li", places), position);
}
registerView("entries", "Entries", drawEntries);
