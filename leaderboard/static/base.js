const board = JSON.parse(document.getElementById("board").textContent);
const rules = ["last", "last10", "noisy_val", "label_wave"];
const palette = ["#4477aa", "#ee6677", "#228833", "#b8a020", "#33a0c8", "#aa3377", "#bb7733", "#777777", "#44aa99", "#882255"];
const dashes = ["", "6 3", "2 3"];

// ---- state, stored in the address so that a view can be linked to

const state = { view: "setting", setting: board.settings.length ? board.settings[0].key : "", rule: "last" };
function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) if (parameters.has(key)) state[key] = parameters.get(key);
  if (!rules.includes(state.rule)) state.rule = "last";
  if (!board.settings.some(summary => summary.key === state.setting) && board.settings.length) state.setting = board.settings[0].key;
  if (!byId(`view-${state.view}`)) state.view = "setting";
}
const addressOf = changes => "#" + new URLSearchParams({ ...state, ...changes });
function navigate(changes) {
  location.hash = addressOf(changes).slice(1);
}

// ---- data of settings, parsed when they are first shown

const summaryOf = key => board.settings.find(summary => summary.key === key);
const details = new Map();
function detailOf(key) {
  if (!details.has(key)) details.set(key, JSON.parse(byId(`setting-${key}`).textContent));
  return details.get(key);
}
const settingName = summary => `${summary.title}  (${summary.network}, ${summary.epochs} epochs)`;

// ---- numbers: a summary is [mean, standard deviation, low, high] or null

const mean = summary => summary === null ? -Infinity : summary[0];
const points = summary => summary === null ? "–" : (100 * summary[0]).toFixed(1) + (summary[1] === null ? "" : " ± " + (100 * summary[1]).toFixed(1));
const interval = summary => summary === null || summary[2] === null ? "" : `95 % interval ${(100 * summary[2]).toFixed(1)} to ${(100 * summary[3]).toFixed(1)}`;
const fixed = digits => summary => summary === null ? "–" : summary[0].toFixed(digits);
const percent = value => (100 * value).toFixed(Math.abs(100 * value) < 10 ? 1 : 0) + " %";
const pText = p => p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
