"use strict";
// Text that comes from data is only set through textContent or text attributes; it is never parsed as HTML.

const byId = id => document.getElementById(id);
const words = input => input.value.toLowerCase().split(/\s+/).filter(Boolean);
function element(name, parent, content = "", attributes = {}) {
  const inSvg = name === "svg" || parent instanceof SVGElement;
  const node = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  node.textContent = content;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}
// Text in which `backquotes` mark names of code.
function withCode(parent, text) {
  if (text.includes("`")) text.split("`").forEach((part, i) => element(i % 2 ? "code" : "span", parent, part));
  else parent.textContent = text;
  return parent;
}
function fill(select, options, value) {
  select.replaceChildren();
  for (const [key, name] of options) element("option", select, name, { value: key });
  select.value = value;
}
function tableOf(view, head, rows) {
  // A table that is wider than the screen is scrolled with the keyboard, too.
  const scroll = { class: "scroll", tabindex: "0", role: "group", "aria-label": `Table of ${head.join(", ")}` };
  const table = element("table", element("div", view, "", scroll)), top = element("tr", element("thead", table));
  for (const title of head) element("th", top, title, { class: "text", scope: "col" });
  const body = element("tbody", table);
  for (const row of rows) {
    const tr = element("tr", body);
    for (const cell of row) withCode(element("td", tr, "", { class: "text wrap" }), String(cell));
  }
}
function switchTheme() {
  const root = document.documentElement, prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = root.dataset.theme ?? (prefersDark ? "dark" : "light");
  root.dataset.theme = theme === "dark" ? "light" : "dark";
}
