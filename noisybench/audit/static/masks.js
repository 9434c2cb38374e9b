
// ---- segmentation masks: the given and the predicted one, and where they differ, over the photograph

const layers = ["given", "predicted", "difference"], views = [...layers, "photograph"];
const doubtful = row => row.doubtful < 0 ? "none" : classOf(row.doubtful);
const iouText = iou => iou === null ? "–" : iou.toFixed(2);

const subject = {
  noun: "mask",
  kinds: ["accept", "keep", "exclude", "unsure"],
  actions: [
    ["A", () => "Accept the prediction", () => decide("accept")],
    ["K", () => "Keep", () => decide("keep")],
  ],
  shortcuts: { V: () => setView(views[(views.indexOf(currentView()) + 1) % views.length]), ...Object.fromEntries(views.map((view, number) => [String(number + 1), () => setView(view)])) },
  filters: [["class", classOptions, (row, number) => row.classes.some(([name, , suspects]) => name === Number(number) && suspects > 0)]],
  sorts: [
    ["suspects", "suspicious pixels", row => -row.suspects], ["differs", "difference of the masks", row => -row.differs],
    ["class", "most doubtful class", doubtful], ["score", "score", row => row.score],
  ],
  row: ([index, file, split, given, score, suspects, differs, doubtful, classes]) => ({ index, file, split, given, score, suspects, differs, doubtful, classes }),
  hasSuggestion: row => row.differs > 0,
  labelFor: () => null,
  decisionText: ({ kind }) => ({ accept: "accept the prediction", keep: "keep the given mask" })[kind] ?? kind,
  describe: row => `${percentText(row.suspects)} suspicious, most in ${doubtful(row)}`,
  facts: row => [
    ["Score", row.score.toFixed(4)], ["Suspicious pixels", percentText(row.suspects)], ["Difference of the masks", percentText(row.differs)],
  ],
  scores: row => row.classes.map(([number, share, suspects, iou]) =>
    [classOf(number), `${percentText(share)} of the image, ${percentText(suspects)} of it suspicious, IoU with the prediction ${iouText(iou)}`]),
  given: row => ["given", row.given],
  cells: (row, { kind }) => ({ given: row.given, new_mask: kind === "accept" ? predicted(row) : "" }),
  read({ decision: written, new_mask: mask }, row) {
    if (!row) return null;
    const kind = written || "accept";
    if (mask && kind !== "accept") throw new Error(`${kind} contradicts new_mask`);
    if (mask && mask !== predicted(row)) throw new Error("new_mask is not the predicted mask of this audit");
    if (kind === "accept" && !subject.hasSuggestion(row)) throw new Error("accept, but the predicted mask is the given one; write keep");
    return { kind, label: null };
  },
  drawPicture(parent, row, text) {
    const [photograph, ...masks] = row.picture, stack = element("span", parent, "", { class: "layers" });
    element("img", stack, "", { alt: text, src: `data:image/webp;base64,${photograph}` });
    masks.forEach((mask, number) => element("img", stack, "", { alt: text && `Overlay: ${layers[number]}`, class: `layer ${layers[number]}`, src: `data:image/png;base64,${mask}` }));
  },
  drawLines(card, row) {
    for (const [title, value] of [["suspicious", percentText(row.suspects)], ["most in", doubtful(row)]]) element("b", element("span", card, `${title} `), value);
  },
  start() {
    for (const button of document.querySelectorAll(".views [data-view]")) button.onclick = () => setView(button.dataset.view);
    setView("difference");
  },
};

const predicted = row => row.picture[1 + layers.indexOf("predicted")];
const currentView = () => document.documentElement.dataset.view;
function setView(view) {
  document.documentElement.dataset.view = view;
  for (const button of document.querySelectorAll(".views [data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
}
function classOptions() {
  const counts = audit.classes.map((_, number) => rows.filter(row => subject.filters[0][2](row, number)).length);
  return [["any", "any class"], ...audit.classes.flatMap((name, number) => counts[number] ? [[String(number), `${name} (${counts[number]})`]] : [])];
}
