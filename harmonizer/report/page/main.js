// Controls, links and start of the page.

/** Make chips that show or hide a family or a protocol. @param {"family" | "source"} kind @param {string[]} values */
function chips(kind, values) {
  const made = values.map((value) => {
    const key = kind + " " + value;
    const toggle = () => {
      if (!state.hidden.delete(key)) state.hidden.add(key);
      changed();
    };
    const count = models.filter((model) => model[kind] === value).length;
    const attributes = { type: "button", class: "chip", "data-key": key, onclick: toggle };
    return html("button", attributes, kind === "family" && icon(value), value + " (" + count + ")");
  });
  byId(kind === "family" ? "families" : "sources").append(...made);
}

/** Update the controls from the state, and draw. */
function refresh() {
  for (const name of choices.filter(control)) {
    control(name).value = state[name];
    control(name).checked = state[name] === "1";
  }
  if (control("search").value !== state.query) control("search").value = state.query;
  for (const chip of all(".chip[data-key]"))
    chip.setAttribute("aria-pressed", String(!state.hidden.has(chip.dataset.key || "")));
  fillTable();
  draw();
  fillGrid();
}
/** Remember and draw a change by the reader. @param {boolean} [step] whether to add it to the history */
function changed(step = true) {
  remember(step);
  refresh();
}

function watchControls() {
  for (const axis of ["x", "y"])
    byId(axis).append(...axes.map((key) => html("option", { value: key }, data.axes[key].short)));
  for (const name of choices.filter(control))
    control(name).addEventListener("change", () => {
      const { type, checked, value } = control(name);
      state[name] = type === "checkbox" ? String(+checked) : value;
      if (["x", "y", "log"].includes(name)) state.view = null;
      changed();
    });
  control("search").addEventListener("input", () => ((state.query = control("search").value), changed(false)));
  const slider = control("magnification");
  slider?.addEventListener("input", () => ((state.magnification = slider.value), fillGrid()));
  slider?.addEventListener("change", () => remember(false));
  byId("zoom-in").addEventListener("click", () => zoomBy(0.7));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / 0.7));
  byId("zoom-reset").addEventListener("click", () => zoomTo(null));
  byId("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    dataset.theme = (dataset.theme || system) === "dark" ? "light" : "dark";
  });
}

function watchLinks() {
  for (const anchor of all("nav a"))
    // an anchor in the address would replace the state
    anchor.addEventListener("click", (event) => {
      event.preventDefault();
      document.querySelector(anchor.getAttribute("href") || "main")?.scrollIntoView();
    });
  for (const row of all("#models tbody tr")) {
    const [, name, family] = all("td", row);
    name.replaceChildren(html("a", { "data-open": row.dataset.model }, breakable(name.textContent || "")));
    family.prepend(icon(family.textContent || ""), " ");
  }
  for (const link of all("a[data-open]")) {
    const model = models[+(link.dataset.open || 0)];
    link.setAttribute("href", "#" + addressOf(model));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      select(model);
      byId("explore").scrollIntoView();
      byId("panel").focus({ preventScroll: true });
    });
  }
}

/** Mark a box that has more columns than fit. @param {HTMLElement} box */
function hintAtMore(box) {
  const hint = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  box.addEventListener("scroll", hint);
  new ResizeObserver(hint).observe(box);
}

function start() {
  const families = data.families.filter((family) => models.some((model) => model.family === family));
  chips("family", families);
  const sources = data.sources.map((source) => source.name);
  if (sources.length > 1) chips("source", sources);
  watchControls();
  watchLinks();
  watchPlot();
  watchSaving();
  makeSortable(byId("models"), state, changed);
  for (const table of all("table.sortable")) {
    const order = { sort: /** @type {Columns} */ ([]) };
    makeSortable(table, order, () => sortRows(table, order.sort));
  }
  const arrive = () => {
    restore();
    select(state.selected, false);
    refresh();
  };
  arrive();
  window.addEventListener("popstate", arrive);
  drawBars();
  new ResizeObserver(() => plot.getAttribute("viewBox") !== viewBox() && draw()).observe(plot);
  data.comparisons.forEach((pair, i) => drawPair(pair, byId("pair-" + i)));
  all(".scroll, .tall").forEach(hintAtMore);
  document.documentElement.dataset.ready = "yes";
}
start();
