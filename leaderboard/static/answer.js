
// ---- the answer: which method to use

function drawAnswer(view) {
  view.replaceChildren();
  for (const group of sectionOf("verdicts")) drawVerdict(view, group);
}
function drawVerdict(view, group) {
  const rule = ruleOf(group), { sentences, rows } = group.rules[rule], [first, ...others] = sentences;
  element("h2", view, `Verdict by ${rule}: ${group.title}`);
  element("p", view, first);
  element("p", view, others.join(" "), { class: "note" });
  const list = element("details", view);
  element("summary", list, "All stacks");
  tableOf(list, ["stack", "probability of being best", `points against ${rows[0][0]}`, "95 % interval"], rows.map(([stack, probability, difference, low, high]) =>
    [stack, probability === null ? "has privileged information" : probability.toFixed(2), signed(difference), low === null ? "" : `${signed(low)} to ${signed(high)}`]));
}
registerView("answer", "Answer", drawAnswer);
