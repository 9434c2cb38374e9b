
// ---- the audit, and texts about its rows; `subject` has what depends on their kind, which classes.js or masks.js defines

const audit = JSON.parse(byId("audit").textContent);
const classOf = number => audit.classes[number];
const nameOf = row => row.file || `row ${row.index}`;
const shortName = row => nameOf(row).length > 80 ? nameOf(row).slice(0, 79) + "…" : nameOf(row);
const percentText = share => `${(100 * share).toFixed(0)}\u00a0%`;
const countText = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
// A leading apostrophe makes spreadsheets read a cell as text and not as a formula.
const plainCell = text => /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;

function say(text) {
  // While a dialog is open, the rest of the page is neither visible nor read out.
  for (const id of ["message", "larger-message"]) byId(id).textContent = text;
}
function drawHistogram() {
  const { low, high, all, suspects, threshold } = audit.histogram, height = 110, top = 18;
  const width = Math.min(Math.max(byId("histogram").clientWidth, 280), 800);  // as wide as it is shown, so that its texts keep their size
  const sum = counts => counts.reduce((total, count) => total + count, 0);
  const most = Math.max(...all), step = width / all.length, numSuspects = sum(suspects);
  const score = bin => (low + bin * (high - low) / all.length).toFixed(2);
  const text = `Scores of ${countText(sum(all), "example")}; ` + (threshold === null ? "none is suspicious."
    : `the ${countText(numSuspects, "label")} to review score ${threshold.toFixed(2)} or more.`);
  const svg = element("svg", byId("histogram"), "", { viewBox: `0 0 ${width} ${height + top + 18}`, width, height: height + top + 18, role: "img", "aria-label": `Histogram of the combined error score. ${text}` });
  all.forEach((count, bin) => {
    let base = top + height;
    for (const [part, style] of [[suspects[bin], "bin suspect"], [count - suspects[bin], "bin"]]) {
      const size = height * part / most;
      base -= size;
      if (part) element("title", element("rect", svg, "", { x: bin * step + 1, y: base, width: step - 2, height: size, class: style }),
        `${countText(part, "label")} with scores ${score(bin)} to ${score(bin + 1)}`);
    }
  });
  if (threshold !== null) {
    const x = high > low ? width * (threshold - low) / (high - low) : 0, isRight = x > width / 2;
    element("line", svg, "", { x1: x, x2: x, y1: 4, y2: top + height, class: "threshold" });
    element("text", svg, `${countText(numSuspects, "label")} to review`, { x: x + (isRight ? -6 : 6), y: 13, class: "name", "text-anchor": isRight ? "end" : "start" });
  }
  element("text", svg, low.toFixed(2), { x: 0, y: top + height + 14 });
  element("text", svg, high.toFixed(2), { x: width, y: top + height + 14, "text-anchor": "end" });
  element("p", byId("histogram"), `${text} Higher scores: more likely incorrect.`, { class: "note" });
}
