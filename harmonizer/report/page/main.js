// Wiring.
function refresh() {
  draw();
  modelTable.refresh();
}
function chips(box, kind, values, withIcon) {
  byId(box).append(...values.map((value) => {
    const count = models.filter((model) => model[kind] === value).length;
    const key = kind + " " + value;
    const button = html("button", { type: "button", class: "chip", "aria-pressed": "true", onclick: () => {
      if (!state.hidden.delete(key)) state.hidden.add(key);
      button.setAttribute("aria-pressed", String(!state.hidden.has(key)));
      refresh();
    } }, withIcon ? icon(value) : "", value + " (" + count + ")");
    return button;
  }));
}
function start() {
  models.forEach((model, index) => (model.index = index));
  const axes = Object.keys(data.axes).filter((axis) => models.some((model) => model.scores[axis]));
  if (!axes.includes("accuracy")) [state.x, state.y] = ["tolerance", "alignment"];
  for (const axis of ["x", "y"]) {
    byId(axis).append(...axes.map((key) => html("option", { value: key, selected: key === state[axis] }, data.axes[key].short)));
    byId(axis).addEventListener("change", (event) => ((state[axis] = event.target.value), (state.view = null), draw()));
  }
  byId("bars").addEventListener("change", (event) => ((state.bars = event.target.value), draw()));
  byId("log").addEventListener("change", (event) => ((state.log = event.target.checked), (state.view = null), draw()));
  byId("names").addEventListener("change", (event) => ((state.names = event.target.checked), draw()));
  byId("search").addEventListener("input", (event) => ((state.query = event.target.value.trim().toLowerCase()), refresh()));
  byId("zoom-in").addEventListener("click", () => zoomBy(0.7));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / 0.7));
  byId("zoom-reset").addEventListener("click", () => zoomTo(null));
  byId("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  });
  chips("families", "family", data.families.filter((family) => models.some((model) => model.family === family)), true);
  if (data.sources.length > 1) chips("sources", "source", data.sources.map((source) => source.name), false);
  byId("notes").append(...data.notes.map((note) => {
    if (note.length < 240) return html("p", { class: "note" }, note);
    return html("details", { class: "note" }, html("summary", {}, note.split(":")[0]), note);
  }));
  watchPlot();
  draw();
  new ResizeObserver(() => draw()).observe(plot);
  drawGrid();
  drawPairs();
  drawCorrelations();
  drawModelTable();
  drawMethods();
  const sections = [...document.querySelectorAll("main section")].filter((section) => !section.hidden);
  byId("contents").append(...sections.map((section) => html("a", { href: "#" + section.id }, section.querySelector("h2").textContent)));
  document.documentElement.dataset.ready = "yes";
}
start();
