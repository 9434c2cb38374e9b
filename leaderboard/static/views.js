
// ---- navigation: all views have registered themselves by now

for (const [name, { title }] of views) element("a", byId("nav"), title, { "data-view": name });
function draw() {
  readAddress();
  for (const section of byId("views").children) section.hidden = section.id !== `view-${state.view}`;
  for (const link of byId("nav").children) {
    const view = link.dataset.view;
    link.href = addressOf({ view });
    if (view === state.view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  views.get(state.view).draw(byId(`view-${state.view}`));
}
byId("theme").onclick = () => { switchTheme(); note({ theme: document.documentElement.dataset.theme }); };
// On a phone, controls and explanations are folded; on paper, everything is unfolded.
for (const details of document.querySelectorAll("details.wide-open")) details.open = matchMedia("(min-width: 641px)").matches;
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const details of folded) details.open = true; });
addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
document.querySelector(".skip").onclick = event => { event.preventDefault(); byId("views").focus(); };
addEventListener("hashchange", draw);
// The data of sections and settings follow this script, so the first drawing waits for them.
addEventListener("DOMContentLoaded", draw);
