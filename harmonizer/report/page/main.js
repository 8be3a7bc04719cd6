// Wiring.

/** Make chips that hide and show a family or a protocol. @param {"family" | "source"} kind @param {string[]} values */
function chips(kind, values) {
  byId(kind === "family" ? "families" : "sources").append(
    ...values.map((value) => {
      const count = models.filter((model) => model[kind] === value).length;
      const key = kind + " " + value;
      const button = html(
        "button",
        { type: "button", class: "chip", "data-key": key },
        kind === "family" && icon(value),
        value + " (" + count + ")",
      );
      button.addEventListener("click", () => {
        if (!state.hidden.delete(key)) state.hidden.add(key);
        changed();
      });
      return button;
    }),
  );
}

/** Bring the controls in line with the state, and draw. */
function refresh() {
  for (const key of /** @type {("x" | "y" | "bars")[]} */ (["x", "y", "bars"])) control(key).value = state[key];
  control("log").checked = state.log;
  control("names").checked = state.names;
  if (control("search").value !== state.query) control("search").value = state.query;
  for (const chip of all(".chip[data-key]"))
    chip.setAttribute("aria-pressed", String(!state.hidden.has(chip.dataset.key || "")));
  fillTable();
  draw();
}
/** After a change by the reader. @param {boolean} [step] into the history */
function changed(step = true) {
  remember(step);
  refresh();
}

function watchControls() {
  for (const key of /** @type {("x" | "y")[]} */ (["x", "y"])) {
    byId(key).append(...axes.map((axis) => html("option", { value: axis }, data.axes[axis].short)));
    control(key).addEventListener("change", () => ((state[key] = control(key).value), (state.view = null), changed()));
  }
  control("bars").addEventListener("change", () => ((state.bars = control("bars").value), changed()));
  control("log").addEventListener(
    "change",
    () => ((state.log = control("log").checked), (state.view = null), changed()),
  );
  control("names").addEventListener("change", () => ((state.names = control("names").checked), changed()));
  control("search").addEventListener("input", () => ((state.query = control("search").value), changed(false)));
  byId("zoom-in").addEventListener("click", () => zoomBy(0.7));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / 0.7));
  byId("zoom-reset").addEventListener("click", () => zoomTo(null));
  byId("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    document.documentElement.dataset.theme =
      (document.documentElement.dataset.theme || system) === "dark" ? "light" : "dark";
  });
  for (const button of all("[data-copy]"))
    button.addEventListener("click", () => copyText(byId(button.dataset.copy || "").textContent || "", button));
  for (const anchor of all("nav a"))
    // an anchor in the address would take the place of the state
    anchor.addEventListener("click", (event) => {
      event.preventDefault();
      document.querySelector(anchor.getAttribute("href") || "main")?.scrollIntoView();
    });
  for (const row of all("#models tbody tr")) {
    const [, name, family] = all("td", row);
    /** @type {HTMLElement} */ (name.firstElementChild).dataset.open = row.dataset.model;
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

/** Show when a box has more columns than fit. @param {HTMLElement} box */
function hintAtMore(box) {
  const hint = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  box.addEventListener("scroll", hint);
  new ResizeObserver(hint).observe(box);
}

function start() {
  chips(
    "family",
    data.families.filter((family) => models.some((model) => model.family === family)),
  );
  if (data.sources.length > 1)
    chips(
      "source",
      data.sources.map((source) => source.name),
    );
  watchControls();
  watchPlot();
  watchSaving();
  makeSortable(
    byId("models"),
    () => state.sort,
    (by) => ((state.sort = by), changed()),
  );
  for (const table of all("table.sortable")) {
    /** @type {[string, boolean][]} */
    let now = [];
    makeSortable(
      table,
      () => now,
      (by) => sortRows(table, (now = by)),
    );
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
  drawGrid();
  data.comparisons.forEach((pair, i) => drawPair(pair, byId("pair-" + i)));
  all(".scroll, .tall").forEach(hintAtMore);
  document.documentElement.dataset.ready = "yes";
}
start();
