
// ---- events

const isTyping = target => target.matches("input:not([type=checkbox]), select, textarea");
function onKey(event) {
  if (document.querySelector("dialog[open]:not(#larger)") || !byId("shortcuts").checked || isTyping(event.target)) return;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key, isCommand = event.ctrlKey || event.metaKey;
  // Assistive technology can focus any card.
  if (event.target.matches(".card")) current = Number(event.target.dataset.position);
  let action = actions.find(([name]) => name === key)?.[2] ?? subject.shortcuts[key];
  if ((isCommand && key !== "Z") || event.altKey) return;
  if (!action) {
    const isLarger = byId("larger").open, columns = isLarger ? 0 : numColumns();
    const step = isLarger || event.target.matches(".card") ? { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key] : 0;
    if (step) action = () => move(step);
  }
  if (!action) return;
  event.preventDefault();
  action();
}
document.addEventListener("keydown", onKey);
byId("grid").onclick = event => {
  const card = event.target.closest(".card");
  if (!card) return;
  current = Number(card.dataset.position);  // some browsers give clicked buttons no focus
  openLarger();
};
for (const id of ["find", ...subject.filters.map(([id]) => id), "split", "decision", "sort"])
  byId(id).oninput = () => { numShown = portion; list(); current = order[0] ?? -1; drawGrid(); };
byId("more").onclick = () => { current = order[numShown]; numShown += portion; drawGrid(); focusCurrent(); };
byId("download").onclick = download;
byId("load").onclick = () => byId("file").click();
byId("file").onchange = async event => {
  const [file] = event.target.files;
  if (file) await load(file);
  event.target.value = "";  // so that the same file can be chosen again
};
byId("close").onclick = () => byId("larger").close();
byId("larger").onclose = () => { drawGrid(); focusCurrent(); };
byId("theme").onclick = switchTheme;
document.querySelector(".skip").onclick = event => { event.preventDefault(); cardOf(current)?.focus(); };
addEventListener("beforeunload", event => { if (!isStored && decisions.size) event.preventDefault(); });
addEventListener("storage", event => {
  if (event.key !== storageKey || !event.newValue) return;
  // Another tab with the same audit has changed the stored decisions.
  decisions.clear();
  past = [];
  restore();
  drawAll();
});

if (audit.histogram) drawHistogram();
subject.start();
if (rows.length) {
  byId("tool").hidden = byId("tile-progress").hidden = false;
  byId("grid").className = [audit.pictures.length ? "" : "rows", audit.sharp ? "sharp" : ""].join(" ").trim();
  byId("larger").className = audit.sharp ? "sharp" : "";
  fillFilters();
  restore();
  drawAll();
}
