const board = JSON.parse(document.getElementById("board").textContent);
const rules = ["last", "last10", "noisy_val", "label_wave"];
// Objects by stack have no prototype: a stack may be called “constructor”, like a property that all other objects have.
const keyedByStack = board.settings.flatMap(({ codes, scores, ranks, seconds, privileged }) => [codes, scores, ranks, seconds, privileged]);
for (const object of [board.names, board.styles, ...keyedByStack]) Object.setPrototypeOf(object, null);

// ---- state: the choices of a reader, stored in the address so that it can be linked to

const defaults = { view: "answer", setting: "", rule: "last", theme: "" };
const state = { ...defaults };
function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(defaults)) state[key] = parameters.get(key) ?? defaults[key];
  if (!rules.includes(state.rule)) state.rule = defaults.rule;
  if (!board.settings.some(summary => summary.key === state.setting)) state.setting = "";
  if (!views.has(state.view)) state.view = defaults.view;
  if (["light", "dark"].includes(state.theme)) document.documentElement.dataset.theme = state.theme;
}
// The address of the present state with some changes; what has its default is not in it.
function addressOf(changes) {
  const chosen = Object.entries({ ...state, ...changes }).filter(([key, value]) => value !== defaults[key]);
  return "#" + new URLSearchParams(chosen);
}
// Go to another state: everything is drawn again, and the browser can go back.
function navigate(changes) {
  location.hash = addressOf(changes).slice(1);
}
// Note a choice in the address without drawing, for controls that draw their part themselves.
function note(changes) {
  Object.assign(state, changes);
  history.replaceState(null, "", addressOf({}));
}

// ---- views: each registers itself in a file of its own

const views = new Map();
// `draw(section)` fills the section of the view; `parameters` are further keys of the state with their defaults.
function registerView(name, title, draw, parameters = {}) {
  views.set(name, { title, draw });
  Object.assign(defaults, parameters);
  if (!byId(`view-${name}`)) element("section", byId("views"), "", { id: `view-${name}`, hidden: "" });
}

// ---- sections and settings, parsed when they are first shown

const parsed = new Map();
function parseOnce(id) {
  if (!parsed.has(id)) parsed.set(id, JSON.parse(byId(id).textContent));
  return parsed.get(id);
}
const sectionOf = name => parseOnce(`section-${name}`);
const detailOf = key => parseOnce(`setting-${key}`);
const summaryOf = key => board.settings.find(summary => summary.key === key);
// Names in words, for people; the whole name belongs into the title of the element.
const shortName = name => board.names[name] ?? name;
const shortTitle = summary => [summary.dataset, summary.noise, summary.task].filter(Boolean).map(shortName).join(" · ");

// ---- numbers: a summary is [mean, standard deviation, low, high] or null

const mean = summary => summary === null ? -Infinity : summary[0];
const points = summary => summary === null ? "–" : (100 * summary[0]).toFixed(1) + (summary[1] === null ? "" : " ± " + (100 * summary[1]).toFixed(1));
const interval = summary => summary === null || summary[2] === null ? "" : `95 % interval ${(100 * summary[2]).toFixed(1)} to ${(100 * summary[3]).toFixed(1)}`;
const percent = value => (100 * value).toFixed(Math.abs(100 * value) < 10 ? 1 : 0) + " %";
// A difference in points with its sign; a difference that is shown as zero has none.
const signed = value => {
  const text = Math.abs(100 * value).toFixed(1);
  return (text === "0.0" ? "±" : value > 0 ? "+" : "−") + text;
};
const pText = p => p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
// The rule that is chosen, or the first one that a comparison of settings has.
const ruleOf = group => group.rules[state.rule] ? state.rule : Object.keys(group.rules)[0];
