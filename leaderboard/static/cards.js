
// ---- cards of mitigations, noise models, datasets and metrics

const cardKinds = { mitigations: "Mitigations", noise_models: "Noise models", datasets: "Datasets", metrics: "Metrics" };
const cardSingular = { mitigations: "mitigation", noise_models: "noise model", datasets: "dataset", metrics: "metric" };
// A metric may have the name of a method.
const cardId = (name, kind) => kind === "metrics" ? `metric:${name}` : name;
const cardAddress = (name, kind = "mitigations") => addressOf({ view: "methods", card: cardId(name, kind) });
// Links to the cards of a stack's members, for other views.
function linkCards(parent, stack) {
  const names = [...stack.matchAll(/(?:^|\+)([a-z]\w*)/g)].map(match => match[1]);
  for (const name of names) {
    element("span", parent, " ");
    element("a", parent, `About ${name}`, { href: cardAddress(name) });
  }
}

// Texts that several cells have are written once.
function withTexts(rows, texts) {
  return (rows ?? []).map(row => row.map(cell => typeof cell === "number" ? texts[cell] : cell));
}
function withSharedTexts(cards) {
  const texts = cards.texts.splice(0);
  cards.parameters = withTexts(cards.parameters, texts);
  for (const card of Object.keys(cardKinds).flatMap(kind => cards[kind])) {
    card.papers = withTexts(card.papers, texts);
    card.presets = withTexts(card.presets, texts);
    if (!card.fidelity) continue;
    const [reference, commit, license, compared, difference, deviations] = card.fidelity;
    card.fidelity = { reference, commit, license, compared, difference, deviations: withTexts(deviations, texts) };
  }
}

function drawCards(view) {
  const cards = sectionOf("cards");
  if (cards.texts.length) withSharedTexts(cards);
  view.replaceChildren();
  for (const kind of Object.keys(cardKinds)) {
    const card = cards[kind].find(each => cardId(each.name, kind) === state.card);
    if (card) return drawCard(view, card, kind, cards.parameters);
  }
  drawCardList(view, cards);
}

// ---- the list

const isOnBoard = (card, kind) => kind === "metrics" || (kind === "mitigations" ? card.measured !== null : card.settings.length > 0);
function drawCardList(view, cards) {
  element("p", view, "What each method does, where it won and lost on this board, what it needs to know and how true it is to its reference; the same for noise models, " +
    "datasets and metrics. In the terminal: noisybench describe NAME.", { class: "note" });
  const bar = element("div", view, "", { class: "bar" });
  const find = element("input", element("label", bar, "Search "), "", { type: "search", placeholder: "name, paper, word …", autocomplete: "off" });
  const choice = element("label", bar, ""), all = element("input", choice, "", { type: "checkbox" });
  element("span", choice, "also those that are not on this board");
  const count = element("output", bar, "", { class: "note" }), lists = element("div", view);
  find.value = state.cards;
  all.checked = state.all !== "" || !board.settings.length;
  const list = () => {
    note({ cards: find.value, all: all.checked && board.settings.length ? "1" : "" });
    const wanted = words(find);
    let shown = 0;
    lists.replaceChildren();
    for (const [kind, title] of Object.entries(cardKinds)) {
      const text = card => [card.name, card.lead, ...(card.papers ?? []).flat()].join(" ").toLowerCase();
      const found = cards[kind].filter(card => (all.checked || wanted.length || isOnBoard(card, kind)) && wanted.every(word => text(card).includes(word)));
      if (!found.length) continue;
      shown += found.length;
      element("h2", lists, `${title} (${found.length})`);
      const items = element("ul", lists, "", { class: "cards" });
      for (const card of found) drawCardItem(items, card, kind);
    }
    count.textContent = shown ? `${shown} shown` : "Nothing found. Search for a shorter word, such as “loss”.";
  };
  find.oninput = all.onchange = list;
  list();
}
function drawCardItem(items, card, kind) {
  const item = element("li", items);
  element("a", element("h3", item), card.name, { href: cardAddress(card.name, kind) });
  withCode(element("p", item), card.lead);
  const facts = [];
  if (kind === "mitigations" && card.measured) {
    const { best, worse, compared } = rulesOf(card.measured), cost = card.measured.cost;
    facts.push(`best group in ${settingsOf(best)} of ${countOf(card.measured.settings)}`);
    if (compared && card.name !== "cross_entropy") facts.push(`significantly below cross-entropy in ${settingsOf(worse)} of ${compared}`);
    if (cost) facts.push(`${fixed(cost[1], 2)} times the cost`);
  }
  if (kind === "mitigations" && !card.measured) facts.push("not on this board");
  if (card.privileged?.length) facts.push(card.privileged.some(use => /\((always|by default)/.test(use)) ? "uses privileged information" : "can use privileged information");
  if (card.license && card.license[0] !== "not applicable") facts.push(`license: ${card.license[0]}`);
  if (facts.length) element("p", item, facts.join(" · "), { class: "note" });
}
const rulesOf = measured => {
  const { best, worse, compared } = measured.rules[state.rule] ?? { best: {}, worse: {}, compared: 0 };
  const placesOf = (byStack, place) => Object.entries(byStack).flatMap(([stack, found]) => found.map(each => place(measured.stacks[stack], each))).sort((a, b) => a[0] - b[0]);
  return {
    best: placesOf(best, (stack, position) => [position, stack]),
    worse: placesOf(worse, (stack, [position, loss]) => [position, stack, loss / 10_000]),
    compared,
  };
};
const countOf = settings => `${settings} ${settings === 1 ? "setting" : "settings"}`;
const settingsOf = places => new Set(places.map(place => place[0])).size;

// ---- one card

function drawCard(view, card, kind, parameters) {
  element("a", element("p", view), `← All ${cardKinds[kind].toLowerCase()} and other cards`, { href: addressOf({ card: "" }) });
  const title = element("h2", view, card.name, { class: "card-name" });
  element("span", title, ` ${cardSingular[kind]}`);
  withCode(element("p", view, "", { class: "lead" }), card.lead);
  if (card.formula) drawFormula(view, card.formula);
  drawCardFacts(view, card, kind);
  if (kind === "mitigations") drawMeasured(view, card);
  if (card.settings) drawUses(view, card, kind);
  if (card.parameters?.length) drawParameters(view, card, parameters);
  if (card.fidelity) drawFidelity(view, card.fidelity);
  if (card.details?.length) {
    element("h3", view, "More");
    for (const paragraph of card.details) withCode(element("p", view), paragraph);
  }
}
const symbols = {
  L: "loss", CE: "cross-entropy", p: "predicted probabilities", y: "observed target", z: "scores", f: "features", C: "number of classes", T: "transition matrix",
  e: "epoch", h: "features of the head", P: "probability of an observed class",
};
function drawFormula(view, formula) {
  const box = element("div", view, "", { class: "formula" });
  for (const part of formula.split(/,  /)) element("div", box, part.replaceAll(" - ", " − ").replaceAll("(-", "(−").replaceAll("= -", "= −"));
  const used = Object.keys(symbols).filter(symbol => new RegExp(`(^|[^A-Za-z])${symbol}([^A-Za-z]|$)`).test(formula));
  if (used.length) element("p", view, used.map(symbol => `${symbol}: ${symbols[symbol]}`).join("; ") + ". Other names are settings.", { class: "note" });
}
function drawCardFacts(view, card, kind) {
  const list = element("dl", view, "", { class: "facts" });
  const fact = name => { element("dt", list, name); return element("dd", list); };
  if (card.command) element("code", fact("Use"), card.command);
  for (const [citation, title, url] of card.papers ?? []) {
    const place = fact("Paper");
    external(place, url, citation);
    element("span", place, `, ${title}`);
  }
  if (card.fidelity?.reference) {
    const place = fact("Code");
    external(place, card.fidelity.reference, withoutScheme(card.fidelity.reference));
    element("span", place, `, ${versionText(card.fidelity.commit)}, license ${card.fidelity.license}`);
  }
  if (card.tasks) fact("Tasks").textContent = card.tasks.join(", ").replaceAll("_", " ");
  if (kind === "mitigations") fact("Privileged information").textContent = card.privileged?.join("; ") ?? "none";
  if (card.convention) withCode(fact("Noise rate"), card.convention);
  if (card.license) {
    const [name, url, access, remark] = card.license, place = fact("License of the data");
    if (url) external(place, url, name); else element("span", place, name);
    element("span", place, [`, access: ${access}`, remark].filter(Boolean).join("; "));
  }
  if (kind === "metrics") {
    fact("Direction").textContent = card.direction === "neither" ? "neither high nor low is better" : `${card.direction} is better`;
    if (card.fields.length) fact("Recorded as").textContent = card.fields.join(", ");
  }
}
const withoutScheme = url => url.replace(/^https?:\/\//, "");
const versionText = commit => /^[0-9a-f]{12}$/.test(commit) ? `commit ${commit}` : `version ${commit}`;
function external(parent, url, text) {
  // Only addresses of the web: a component of another package may declare any text.
  if (/^https?:\/\//.test(url)) element("a", parent, text, { href: url, rel: "noreferrer" });
  else element("span", parent, text);
}

// ---- what was measured

function drawMeasured(view, card) {
  element("h3", view, "On this board");
  if (!card.measured) element("p", view, "No run on this board uses it.");
  else drawMeasurements(view, card);
  if (card.measured?.tuned.length) {
    element("h4", view, "Best measured settings, selected by a search");
    drawPlaces(view, "", card.measured.tuned.map(([stack, position]) => [position, stack]), card.name, "");
  } else if (card.search) {
    const command = card.search === true ? card.command.replace(/^noisybench \w+/, "noisybench search") : card.search;
    element("code", element("p", view, "Best measured settings: not searched on this board. Search them with "), command);
  }
}
function drawMeasurements(view, card) {
  const { settings, cost, is_alone } = card.measured, { best, worse, compared } = rulesOf(card.measured);
  const range = cost && (cost[0] === cost[2] ? "" : ` (${fixed(cost[0], 2)} to ${fixed(cost[2], 2)} over settings)`);
  element("p", view, `Measured in ${countOf(settings)}, here by the selection rule ${state.rule}. ` +
    (card.name === "cross_entropy" ? "It is the baseline that others are compared with." : cost ? `A run takes ${fixed(cost[1], 2)} times as long as with cross-entropy${range}${is_alone ? "" : ", together with the other methods of its stacks"}.`
      : "Its settings have no run of cross-entropy to compare the cost with."));
  const lists = element("div", view, "", { class: "columns" });
  drawPlaces(lists, `Won: in the best rank group in ${settingsOf(best)} of ${settings}`, best, card.name, "In no setting.");
  if (compared && card.name !== "cross_entropy") drawPlaces(lists, `Lost: significantly below cross-entropy in ${settingsOf(worse)} of ${compared}`, worse, card.name, "In no setting.");
}
function drawPlaces(parent, title, places, name, empty) {
  const box = element("div", parent), bySetting = new Map();
  if (title) element("h4", box, title);
  if (!places.length) { element("p", box, empty, { class: "note" }); return; }
  for (const place of places) bySetting.set(place[0], [...bySetting.get(place[0]) ?? [], place]);
  const list = element("ul", box);
  for (const [position, stacks] of bySetting) {
    const item = element("li", list);
    linkSetting(item, position);
    const texts = stacks.map(([, stack, gain]) => {
      const change = gain === undefined ? "" : `${signed(gain)} points`;
      const shown = stack === name && stacks.length === 1 ? "" : shortName(stack);
      return shown && change ? `${shown} (${change})` : shown + change;
    });
    if (texts.some(Boolean)) element("span", item, `: ${texts.join("; ")}`);
  }
}
function linkSetting(parent, position) {
  const summary = board.settings[position];
  element("a", parent, shortTitle(summary), { href: addressOf({ view: "boards", setting: summary.key }), title: `${summary.title} (${summary.network}, ${summary.epochs} epochs)` });
}
function drawUses(view, card, kind) {
  element("h3", view, "On this board");
  if (!card.settings.length) { element("p", view, `No setting on this board has this ${cardSingular[kind]}.`); return; }
  const list = element("ul", view);
  for (const position of card.settings) linkSetting(element("li", list), position);
}

// ---- settings and fidelity

function drawParameters(view, card, parameters) {
  element("h3", view, "Settings");
  const rows = card.parameters.map(position => parameters[position]);
  tableOf(view, ["name", "default", "meaning", "type", "allowed", "search range"], rows.map(([name, value, kind, allowed, search, help]) => [name, value, help, kind, allowed, search]));
  if (!card.presets?.length) return;
  element("h3", view, "Published settings");
  tableOf(view, ["preset", "for", "settings", "source"], card.presets);
}
function drawFidelity(view, fidelity) {
  element("h3", view, "Fidelity to the reference");
  withCode(element("p", view), fidelity.reference ? `Compared with its code: ${fidelity.compared}. Largest difference: ${fidelity.difference}.`
    : `No reference code is public. Its tests hold: ${fidelity.compared}.`);
  if (fidelity.deviations.length) tableOf(view, ["deviation", "reason", "effect"], fidelity.deviations);
  else element("p", view, "No deviation is known.");
}
registerView("methods", "Methods", drawCards, { card: "", cards: "", all: "" });
