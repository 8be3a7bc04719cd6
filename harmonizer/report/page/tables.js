// Tables: sorting, and the leaderboard, which shares its filters with the plot.

/** The sort key of a cell: its number or its text. @param {HTMLElement} cell */
function sortValue(cell) {
  const text = (cell.textContent || "").trim();
  if (text === "–" || text === "") return null;
  const number = text.startsWith("∞") ? Infinity : parseFloat(text.replace("−", "-").replace(/^[[<=] */, ""));
  return Number.isNaN(number) || cell.classList.contains("text") ? text : number;
}
/** @param {string | number | null} a @param {string | number | null} b @param {boolean} up unknown values come last */
function compare(a, b, up) {
  if (a === null || b === null) return +(a === null) - +(b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b));
  return up ? order : -order;
}
/** Columns by name that a table is sorted by, and whether ascending. @typedef {[string, boolean][]} Columns */
/** Sort a table's rows. @param {HTMLElement} table @param {Columns} by */
function sortRows(table, by) {
  const heads = all("thead th", table);
  const columns = by
    .map(([name, up]) => /** @type {[number, boolean]} */ ([heads.findIndex((head) => head.dataset.name === name), up]))
    .filter(([i]) => i >= 0);
  const rows = all("tbody tr", table).map((row) => {
    const cells = all("td, th", row);
    return { row, values: columns.map(([i]) => sortValue(cells[i])) };
  });
  rows.sort((a, b) => {
    for (const [k, [, up]] of columns.entries()) {
      const order = compare(a.values[k], b.values[k], up);
      if (order) return order;
    }
    return +(a.row.dataset.model || 0) - +(b.row.dataset.model || 0);
  });
  table.querySelector("tbody")?.append(...rows.map(({ row }) => row));
  heads.forEach((head, i) => {
    const at = columns.findIndex(([column]) => column === i);
    head.setAttribute("aria-sort", at < 0 ? "none" : columns[at][1] ? "ascending" : "descending");
    head.dataset.order = at >= 0 && columns.length > 1 ? String(at + 1) : "";
  });
}
/** Make the columns of a table sortable: a click sorts by a column, a Shift-click adds one to the sort.
 * @param {HTMLElement} table @param {{sort: Columns}} order changed by clicks @param {() => void} then */
function makeSortable(table, order, then) {
  for (const head of all("thead th", table)) {
    const name = (head.dataset.name ||= head.textContent || "");
    const sort = (/** @type {MouseEvent} */ { shiftKey }) => {
      const known = order.sort.find(([column]) => column === name);
      const next = /** @type {[string, boolean]} */ ([name, known ? !known[1] : head.classList.contains("text")]);
      if (!shiftKey) order.sort = [next];
      else if (known) order.sort = order.sort.map((column) => (column === known ? next : column));
      else order.sort = [...order.sort, next];
      then();
    };
    const title = "Sort; Shift-click to add a column";
    head.replaceChildren(html("button", { type: "button", title, onclick: sort }, head.textContent));
  }
}

/** The models in the table, in its order. */
const listed = () =>
  all("#models tbody tr")
    .filter((row) => !row.hidden)
    .map((row) => models[+(row.dataset.model || 0)]);

/** Filter, sort and rank the table of models; ranks are within each protocol. */
function fillTable() {
  const table = byId("models");
  const by = state.sort.length ? state.sort : /** @type {Columns} */ ([["tolerance", false]]);
  sortRows(table, by);
  const ranked = axes.find((axis) => axis === by[0][0]) || "tolerance";
  const values = models.map((model) => valueOf(model, ranked));
  /** @param {Model} model */
  const rank = ({ index, source }) =>
    1 + models.filter((m, i) => m.source === source && values[i] > values[index]).length;
  let count = 0;
  for (const row of all("tbody tr", table)) {
    const model = models[+(row.dataset.model || 0)];
    row.hidden = !isShown(model) || !matches(model);
    row.classList.toggle("mine", Boolean(model.own));
    count += +!row.hidden;
    all("td", row)[0].textContent = known(values[model.index]) ? String(rank(model)) : "–";
  }
  const protocols = data.sources.length > 1 ? ", within each protocol" : "";
  byId("count").textContent =
    count + " of " + models.length + " models; # ranks by " + data.axes[ranked].short + protocols + ".";
}

/** Draw bars from zero in the cells of scores, with the 95 % interval as a line. */
function drawBars() {
  const columns = all("#models thead th").map((head) => head.dataset.name || "");
  for (const axis of columns.filter((name) => axes.includes(name))) {
    const values = models.flatMap((m) => [valueOf(m, axis), ...(m.scores[axis] || []).slice(2, 4)]).filter(known);
    const at = scale([Math.min(...values, 0), Math.max(...values, 0)], [0, 96]);
    for (const row of all("#models tbody tr")) {
      const { family, scores } = models[+(row.dataset.model || 0)];
      const [value, , low, high] = scores[axis] || [];
      if (!known(value)) continue;
      const [l, h] = known(low) && known(high) ? [low, high] : [value, value];
      const cell = all("td", row)[columns.indexOf(axis)];
      cell.classList.add("bars", familyClass(family));
      for (const [name, end] of Object.entries({ a: Math.min(0, value), b: Math.max(0, value), l, h }))
        cell.style.setProperty("--" + name, at(end).toFixed(1) + "%");
    }
  }
}

/** Two models on the same images, image by image. @param {Comparison} pair @param {HTMLElement} place */
function drawPair(pair, place) {
  const [a, b] = [models[pair.a], models[pair.b]];
  const scores = Object.keys(pair.values).filter((score) => pair.changed[score].length);
  const options = scores.map((score) => html("option", { value: score }, data.axes[score].short));
  const choice = /** @type {HTMLSelectElement} */ (html("select", { onchange: () => fill() }, options));
  const chart = html("div", {});
  const list = scrollBox("Images that changed most between " + a.name + " and " + b.name);
  const fill = () => {
    const [first, second] = pair.values[choice.value];
    chart.replaceChildren(pairPlot(a, b, pair.keys, first, second));
    const rows = pair.changed[choice.value].map((i) => {
      const values = [first[i], second[i], Number(second[i]) - Number(first[i])];
      return [pair.keys[i], ...values.map((value) => show(value, 2))];
    });
    list.replaceChildren(plainTable(["Changed most", "first", "second", "change"], rows));
  };
  place.append(html("p", {}, html("label", {}, "Per image: ", choice)), html("div", { class: "pair" }, chart, list));
  fill();
}
/** @param {Model} a @param {Model} b @param {string[]} keys @param {Value[]} first @param {Value[]} second */
function pairPlot(a, b, keys, first, second) {
  const values = [...first, ...second].filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.05;
  const [start, end] = [low - pad, high + pad];
  const { group, sx, sy } = smallAxes({ width: 520, height: 320 }, [start, end], [start, end], a.name, 5);
  const diagonal = line("zero", sx(start), sy(start), sx(end), sy(end));
  diagonal.setAttribute("stroke-dasharray", "4 3");
  const dots = first.map((value, i) => {
    const other = second[i];
    if (!known(value) || !known(other)) return false;
    const title = svg("title", {}, keys[i] + ": " + show(value, 3) + " → " + show(other, 3));
    return svg("circle", { class: "fill", cx: sx(value), cy: sy(other), r: 3.4 }, title);
  });
  const told = "Each image's score: " + b.name + " against " + a.name;
  const style = "small-plot " + familyClass(b.family);
  const frame = { class: style, viewBox: "0 -16 520 336", role: "img", "aria-label": told };
  return svg("svg", frame, group, diagonal, dots, text(b.name, 4, -4));
}
