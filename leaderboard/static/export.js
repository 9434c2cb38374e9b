
// ---- export of tables and figures, and citations: texts are shown before they are copied or saved

// The texts of a table as it is shown: filtered, sorted, and with the columns that were chosen.
function readTable(table) {
  const head = [...table.tHead.rows].at(-1).cells, rows = [...table.tBodies].flatMap(body => [...body.rows]).filter(row => !row.classList.contains("runs") && row.cells.length === head.length);
  const textOf = cell => (cell.dataset.text ?? cell.textContent).replace(/\s+/g, " ").trim();
  const cells = rows.map(row => [...row.cells].map(cell => ({ text: textOf(cell), isBest: cell.classList.contains("best") || cell.querySelector(".best") !== null })));
  return {
    caption: table.caption?.textContent ?? headingOf(table), notes: "",
    columns: [...head].map((cell, i) => ({ title: textOf(cell), isText: cell.classList.contains("text") && !cells.every(row => /^[-+–−±\d.]/.test(row[i].text)), csv: [textOf(cell)] })),
    rows: cells.map(row => row.map(cell => ({ ...cell, csv: [asPlainNumber(cell.text)] }))),
  };
}
// Programs that read CSV know neither the minus sign of typography nor a sign of zero.
const asPlainNumber = text => text.replace(/^−(?=[\d.])/, "-").replace(/^±(?=0\.0$)/, "");
function headingOf(node) {
  for (let at = node; at && at.id !== "views"; at = at.parentElement) {
    for (let before = at.previousElementSibling; before; before = before.previousElementSibling) {
      const heading = before.matches("h2, h3, figcaption") ? before : [...before.querySelectorAll("h2, h3")].at(-1);
      if (heading) return heading.textContent;
    }
  }
  return views.get(state.view).title;
}
// The table of a setting has whole names, numbers with all digits for CSV, and the caption of `noisybench leaderboard --format latex`.
function readSetting(table) {
  const chosen = [...table.tHead.rows[0].cells].map(cell => board.columns.findIndex(column => column.title === cell.querySelector("[data-sort]").dataset.sort));
  const byStack = new Map(setting.rows.map(row => [row.stack, row])), rows = [...table.tBodies[0].rows].filter(tr => tr.dataset.stack !== undefined).map(tr => byStack.get(tr.dataset.stack));
  const valuesOf = (row, column, text) => {
    const value = row[column.name];
    if (column.csv.length > 1) return value ?? column.csv.map(() => null);
    return [column.text || column.name === "rank" ? (text === "–" ? "" : text) : Array.isArray(value) ? value[0] : value];
  };
  return {
    caption: summaryOf(state.setting).title, notes: `${setting.rules[state.rule].footnote}${setting.notes.map(note => ` Note: ${note}.`).join("")}`,
    columns: chosen.map(index => ({ title: board.columns[index].title, isText: board.columns[index].text, csv: board.columns[index].csv })),
    rows: rows.map(row => chosen.map(index => {
      const column = board.columns[index], text = columns[index].show(row);
      return { text, isBest: row.best.includes(column.name), csv: valuesOf(row, column, text) };
    })),
  };
}

// ---- formats, the same as in leaderboard/text_tables.py

const latexText = text => [...text].map(character => board.latex[character] ?? character).join("").replace(/`([^`]+)`/g, "\\texttt{$1}");
function csvCell(value) {
  if (value === null) return "";
  // A leading apostrophe makes spreadsheets read a cell as text and not as a formula.
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
const FORMATS = {
  CSV: { suffix: "csv", type: "text/csv", write: ({ columns, rows }) => [columns.flatMap(({ csv }) => csv), ...rows.map(row => row.flatMap(({ csv }) => csv))].map(line => line.map(csvCell).join(",") + "\n").join("") },
  LaTeX: { suffix: "tex", type: "text/plain", write: writeLatex },
  Markdown: { suffix: "md", type: "text/plain", write: writeMarkdown },
};
function writeLatex({ caption, notes, columns, rows }) {
  const lines = [columns.map(({ title }) => latexText(title)), ...rows.map(row => row.map(({ text, isBest }) => isBest ? `\\textbf{${latexText(text)}}` : latexText(text)))].map(cells => cells.join(" & ") + " \\\\");
  return ["\\begin{table}", "\\centering", `\\caption{${latexText(caption)}.${notes ? ` ${latexText(notes)}` : ""}}`, `\\begin{tabular}{${columns.map(({ isText }) => isText ? "l" : "r").join("")}}`,
    "\\toprule", lines[0], "\\midrule", ...lines.slice(1), "\\bottomrule", "\\end{tabular}", "\\end{table}", ""].join("\n");
}
function writeMarkdown({ columns, rows }) {
  const line = cells => `| ${cells.map(cell => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(columns.map(({ title }) => title)) + `|${" --- |".repeat(columns.length)}\n` + rows.map(row => line(row.map(({ text, isBest }) => isBest ? `**${text}**` : text))).join("");
}

// ---- the dialog

const fileName = text => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "table";
function save(name, content, type) {
  const link = element("a", document.body, "", { href: URL.createObjectURL(new Blob([content], { type })), download: name, hidden: "" });
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
// `options(bar, update)` adds the choices; `read()` returns {text, name, type, note} of what is chosen.
function textDialog(title, options, read) {
  const dialog = element("dialog", document.body, "", { class: "export", "aria-label": title }), shown = () => read();
  element("h2", dialog, title);
  const text = document.createElement("textarea"), update = () => { text.value = shown().text; say(""); };
  options(element("div", dialog, "", { class: "options" }), update);
  for (const [name, value] of Object.entries({ "aria-label": "Text", readonly: "", rows: "12", spellcheck: "false" })) text.setAttribute(name, value);
  dialog.append(text);
  const bar = element("div", dialog, "", { class: "bar" }), status = element("output", dialog, "", { class: "note" });
  const say = message => { status.textContent = message; };
  element("button", bar, "Copy", { type: "button", class: "action" }).onclick = () => copy(text, shown().note).then(say);
  element("button", bar, "Save file", { type: "button", class: "action" }).onclick = () => {
    const { name, type, text: content } = shown();
    save(name, content, type);
    say(`Saved as ${name}.`);
  };
  element("button", bar, "Close", { type: "button", class: "action" }).onclick = () => dialog.close();
  dialog.onclose = () => dialog.remove();
  update();
  dialog.showModal();
}
async function copy(area, note) {
  area.select();
  try {
    await navigator.clipboard.writeText(area.value);
  } catch {
    // Without a secure connection or a permission there is no clipboard, but the selection can be copied by hand.
    return "The browser refused; the text is selected: copy it with Ctrl+C.";
  }
  return `Copied ${note}.`;
}
function choices(parent, legend, type, names, isChecked, onchange) {
  const group = element("fieldset", parent), inputs = [];
  element("legend", group, legend);
  for (const name of names) {
    const label = element("label", group), input = element("input", label, "", { type, name: `export-${legend}`, value: name });
    input.checked = isChecked(name);
    input.onchange = onchange;
    element("span", label, ` ${name}`);
    inputs.push(input);
  }
  return () => inputs.filter(input => input.checked).map(input => input.value);
}
let lastFormat = "LaTeX";
function exportTable(table) {
  const source = table.id === "table" ? readSetting(table) : readTable(table), titles = source.columns.map(({ title }) => title);
  let formats, chosen;
  textDialog("Export table", (bar, update) => {
    formats = choices(bar, "Format", "radio", Object.keys(FORMATS), name => name === lastFormat, () => { [lastFormat] = formats(); update(); });
    chosen = choices(bar, "Columns", "checkbox", titles, () => true, update);
  }, () => {
    const kept = new Set(chosen()), only = cells => cells.filter((_, i) => kept.has(titles[i])), format = FORMATS[formats()[0]];
    const text = format.write({ ...source, columns: only(source.columns), rows: source.rows.map(only) }), count = source.rows.length;
    return { text, name: `${fileName(source.caption)}.${format.suffix}`, type: format.type, note: `${count} row${count === 1 ? "" : "s"} as ${lastFormat}` };
  });
}
// Of some settings, everything that they use is chosen; of the whole board, only noisybench.
function cite(keys = null) {
  const positions = keys?.map(key => board.settings.findIndex(summary => summary.key === key));
  const works = sectionOf("citations").filter(([, , settings]) => !keys || settings.some(position => positions.includes(position)));
  let chosen;
  textDialog("Cite", (bar, update) => { chosen = choices(bar, "Work", "checkbox", works.map(([name]) => name), name => keys || name === works[0][0], update); }, () => {
    const kept = chosen(), text = works.filter(([name]) => kept.includes(name)).map(([, entry]) => entry).join("\n\n") + "\n";
    return { text, name: "noisybench.bib", type: "text/plain", note: `${kept.length} BibTeX ${kept.length === 1 ? "entry" : "entries"}` };
  });
}

// ---- figures as files, in the light colors whatever the theme

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "font-size", "font-weight", "font-family", "text-anchor", "visibility"];
function standalone(svg) {
  const root = document.documentElement, theme = root.dataset.theme, copied = svg.cloneNode(true), [, , width, height] = svg.getAttribute("viewBox").split(" ");
  root.dataset.theme = "light";
  const parts = [...svg.querySelectorAll("*")];
  [...copied.querySelectorAll("*")].forEach((part, i) => {
    const style = getComputedStyle(parts[i]);
    for (const name of DRAWN) if (name !== "font-family" || part.localName === "text") part.setAttribute(name, style.getPropertyValue(name));
    part.removeAttribute("class");
  });
  if (theme === undefined) delete root.dataset.theme; else root.dataset.theme = theme;
  for (const name of ["class", "style", "tabindex", "role", "aria-label", "aria-roledescription"]) copied.removeAttribute(name);
  copied.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copied.setAttribute("width", width);
  copied.setAttribute("height", height);
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width, height, fill: "#fff" })) paper.setAttribute(name, value);
  copied.prepend(paper);
  return { text: new XMLSerializer().serializeToString(copied), width: Number(width), height: Number(height) };
}
const PIXELS = 3;  // of a PNG file per pixel of the page
async function savePng(name, { text, width, height }) {
  const image = new Image(), canvas = document.createElement("canvas");
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  [canvas.width, canvas.height] = [PIXELS * width, PIXELS * height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(blob => save(name, blob, "image/png"), "image/png");
}

// ---- every table and figure gets its buttons when it appears

const announced = element("output", document.body, "", { class: "hidden" });
function addTools(root) {
  for (const table of root.querySelectorAll("table:not([data-tools])")) {
    table.dataset.tools = "";
    const place = table.closest(".scroll") ?? table, tools = document.createElement("p");
    tools.className = "tools";
    place.after(tools);
    element("button", tools, "Export table", { type: "button", class: "tool", "aria-haspopup": "dialog" }).onclick = () => exportTable(table);
  }
  for (const figure of root.querySelectorAll("figure:not([data-tools])")) {
    const caption = figure.querySelector("figcaption");
    figure.dataset.tools = "";
    if (!caption) continue;
    const title = caption.firstChild.textContent, name = fileName(title), chart = () => standalone(figure.querySelector("svg"));
    for (const [kind, write] of [["SVG", () => save(`${name}.svg`, chart().text, "image/svg+xml")], ["PNG", () => savePng(`${name}.png`, chart())]]) {
      element("button", caption, kind, { type: "button", class: "tool", title: `Save as ${kind}`, "aria-label": `Save “${title}” as ${kind}` }).onclick = () => {
        write();
        announced.textContent = `Saved ${name}.${kind.toLowerCase()}`;
      };
    }
  }
}
new MutationObserver(() => addTools(byId("views"))).observe(byId("views"), { childList: true, subtree: true });
element("button", byId("theme").parentElement, "Cite", { type: "button", class: "tool", "aria-haspopup": "dialog" }).onclick = () => cite();
