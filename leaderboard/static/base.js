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
const longestFirst = Object.keys(board.names).sort((a, b) => b.length - a.length).map(name => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
const wholeNames = longestFirst.length ? new RegExp(`(^|\\W)(${longestFirst.join("|")})`, "g") : null;
const inWords = text => wholeNames ? text.replace(wholeNames, (_, before, name) => before + board.names[name]) : text;
// Sentences that name stacks and settings as records do.
const prose = (parent, text) => withCode(parent, inWords(text));
const shortTitle = summary => [summary.dataset, summary.noise, summary.task].filter(Boolean).map(shortName).join(" · ");

// ---- numbers: a summary is [mean, standard deviation, low, high] or null

// Rounds ties to even, as leaderboard/rounding.py does; `toFixed` rounds them up. A tie has exactly one digit more than is shown.
const ZEROS = "0".repeat(29);
function fixed(value, digits) {
  const exact = Math.abs(value).toFixed(digits + 30), below = exact.slice(0, -30).replace(/\.$/, "");
  const text = exact.endsWith(`5${ZEROS}`) && "02468".includes(below.at(-1)) ? below : Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `-${text}` : text;
}
const mean = summary => summary === null ? -Infinity : summary[0];
const points = summary => summary === null ? "–" : fixed(100 * summary[0], 1) + (summary[1] === null ? "" : " ± " + fixed(100 * summary[1], 1));
const interval = summary => summary === null || summary[2] === null ? "" : `95 % interval ${fixed(100 * summary[2], 1)} to ${fixed(100 * summary[3], 1)}`;
const percent = value => fixed(100 * value, Math.abs(100 * value) < 10 ? 1 : 0) + " %";
// A difference in points with its sign; a difference that is shown as zero has none.
const signed = value => {
  const text = fixed(Math.abs(100 * value), 1);
  return (text === "0.0" ? "±" : value > 0 ? "+" : "−") + text;
};
const pText = p => p < 0.001 ? "p < 0.001" : `p = ${fixed(p, 3)}`;
// The rule that is chosen, or the first one that a comparison of settings has.
const ruleOf = group => group.rules[state.rule] ? state.rule : Object.keys(group.rules)[0];
