
// ---- runs that are in no table

function drawExcluded(view) {
  view.replaceChildren();
  element("p", view, "Runs and stacks that are in no table, or are not ranked there.", { class: "note" });
  if (board.excluded.length) tableOf(view, ["run or stack", "reason"], board.excluded.map(each => [inWords(each.what), inWords(each.why)]));
  else element("p", view, "No run is excluded.");
  element("p", view, "Trials of hyperparameter searches are never shown: only the final runs of a search are ranked, with seeds that no trial has used.", { class: "note" });
}
registerView("excluded", "Excluded runs", drawExcluded);
