
// ---- guide: its text is in the page

registerView("guide", "Guide", () => {});
