// Tables: sorting, and the leaderboard that shares its filters with the plot.

/** What a cell sorts by: its number, or its text. @param {HTMLElement} cell */
function sortValue(cell) {
  const text = (cell.textContent || "").trim();
  if (text === "–" || text === "") return null;
  const number = text.startsWith("∞") ? Infinity : parseFloat(text.replace("−", "-").replace(/^[[<=] */, ""));
  return Number.isNaN(number) || cell.classList.contains("text") ? text : number;
}
/** @param {string | number | null} a @param {string | number | null} b @param {boolean} up what is not known comes last */
function compare(a, b, up) {
  if (a === null || b === null) return +(a === null) - +(b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b));
  return up ? order : -order;
}
/** Sort a table's rows. @param {HTMLElement} table @param {[string, boolean][]} by names of columns, ascending or not */
function sortRows(table, by) {
  const heads = all("thead th", table);
  const columns = by
    .map(([name, up]) => /** @type {[number, boolean]} */ ([heads.findIndex((head) => head.dataset.name === name), up]))
    .filter(([i]) => i >= 0);
  const rows = all("tbody tr", table).map((row) => {
    const cells = all("td, th", row);
    return /** @type {const} */ ([row, columns.map(([i]) => sortValue(cells[i]))]);
  });
  rows.sort(([a, x], [b, y]) => {
    for (const [k, [, up]] of columns.entries()) if (compare(x[k], y[k], up)) return compare(x[k], y[k], up);
    return +(a.dataset.model || 0) - +(b.dataset.model || 0);
  });
  table.querySelector("tbody")?.append(...rows.map(([row]) => row));
  heads.forEach((head, i) => {
    const at = columns.findIndex(([column]) => column === i);
    head.setAttribute("aria-sort", at < 0 ? "none" : columns[at][1] ? "ascending" : "descending");
    head.dataset.order = at >= 0 && columns.length > 1 ? String(at + 1) : "";
  });
}
/** Let the heads of a table sort it: a click by one column, with Shift by one more.
 * @param {HTMLElement} table @param {() => [string, boolean][]} now @param {(by: [string, boolean][]) => void} then */
function makeSortable(table, now, then) {
  for (const head of all("thead th", table)) {
    const name = (head.dataset.name ||= head.textContent || "");
    const button = html("button", { type: "button", title: "Sort; with Shift: by one more column" }, head.textContent);
    button.addEventListener("click", (event) => {
      const known = now().find(([column]) => column === name);
      const next = /** @type {[string, boolean]} */ ([name, known ? !known[1] : head.classList.contains("text")]);
      const others = now().filter(([column]) => column !== name);
      then(
        /** @type {MouseEvent} */ (event).shiftKey
          ? known
            ? now().map((one) => (one === known ? next : one))
            : [...others, next]
          : [next],
      );
    });
    head.replaceChildren(button);
  }
}

/** The models in the table, in its order. */
const listed = () =>
  all("#models tbody tr")
    .filter((row) => !row.hidden)
    .map((row) => models[+(row.dataset.model || 0)]);

/** Show in the table of models what the filters leave, sorted and ranked within each protocol. */
function fillTable() {
  const table = byId("models");
  const by = state.sort.length ? state.sort : /** @type {[string, boolean][]} */ ([["tolerance", false]]);
  sortRows(table, by);
  const ranked = axes.find((axis) => axis === by[0][0]) || "tolerance";
  /** @type {Map<Model, number>} */
  const ranks = new Map();
  for (const source of data.sources) {
    const values = models.filter((m) => m.source === source.name && known(valueOf(m, ranked)));
    for (const model of values)
      ranks.set(model, 1 + values.filter((other) => valueOf(other, ranked) > valueOf(model, ranked)).length);
  }
  let count = 0;
  for (const row of all("tbody tr", table)) {
    const model = models[+(row.dataset.model || 0)];
    row.hidden = !isShown(model) || !matches(model);
    row.classList.toggle("mine", Boolean(model.own));
    count += +!row.hidden;
    all("td", row)[0].textContent = ranks.has(model) ? String(ranks.get(model)) : "–";
  }
  const protocols = data.sources.length > 1 ? ", within each protocol" : "";
  byId("count").textContent =
    count + " of " + models.length + " models; # ranks by " + data.axes[ranked].short + protocols + ".";
}

/** Bars in the cells of the scores, from zero, with the 95 % interval as a line. */
function drawBars() {
  const heads = all("#models thead th");
  for (const axis of axes) {
    const column = heads.findIndex((head) => head.dataset.name === axis);
    const values = models.flatMap((m) => [valueOf(m, axis), ...(m.scores[axis] || []).slice(2, 4)]).filter(known);
    const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
    const at = scale([low, high], [0, 96]);
    for (const row of all("#models tbody tr")) {
      const model = models[+(row.dataset.model || 0)];
      const [zero, value] = [at(0), at(valueOf(model, axis))];
      if (column < 0 || !known(value)) continue;
      const [, , from, to] = model.scores[axis];
      const ends = known(from) && known(to) ? [at(from), at(to)] : [0, 0];
      const places = { a: Math.min(zero, value), b: Math.max(zero, value), l: ends[0], h: ends[1] };
      const cell = all("td", row)[column];
      cell.classList.add("bars", familyClass(model.family));
      for (const [name, place] of Object.entries(places)) cell.style.setProperty("--" + name, place.toFixed(1) + "%");
    }
  }
}

/** Two models on the same images, image by image. @param {Comparison} pair @param {HTMLElement} place */
function drawPair(pair, place) {
  const [a, b] = [models[pair.a], models[pair.b]];
  const scores = Object.keys(pair.values).filter((score) => pair.changed[score].length);
  const choice = html(
    "select",
    {},
    scores.map((score) => html("option", { value: score }, data.axes[score].short)),
  );
  const [chart, list] = [
    html("div", {}),
    html("div", {
      class: "scroll",
      tabindex: 0,
      role: "region",
      "aria-label": "Images that changed most between " + a.name + " and " + b.name,
    }),
  ];
  const fill = () => {
    const score = /** @type {HTMLSelectElement} */ (choice).value;
    const [first, second] = pair.values[score];
    chart.replaceChildren(pairPlot(a, b, pair.keys, first, second));
    const rows = pair.changed[score].map((i) => [
      pair.keys[i],
      show(first[i], 2),
      show(second[i], 2),
      show(Number(second[i]) - Number(first[i]), 2),
    ]);
    list.replaceChildren(plainTable(["Changed most", "first", "second", "change"], rows));
  };
  choice.addEventListener("change", fill);
  place.append(html("p", {}, html("label", {}, "Per image: ", choice)), html("div", { class: "pair" }, chart, list));
  fill();
}
/** @param {Model} a @param {Model} b @param {string[]} keys @param {Value[]} first @param {Value[]} second */
function pairPlot(a, b, keys, first, second) {
  const values = [...first, ...second].filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.05;
  const domain = [low - pad, high + pad];
  const { group, sx, sy } = smallAxes(520, 320, domain, domain, a.name, 5);
  const [start, end] = domain;
  const diagonal = svg("line", {
    class: "zero",
    "stroke-dasharray": "4 3",
    x1: sx(start),
    y1: sy(start),
    x2: sx(end),
    y2: sy(end),
  });
  const dots = first.flatMap((value, i) => {
    const other = second[i];
    if (!known(value) || !known(other)) return [];
    return [
      svg(
        "circle",
        { class: "fill", cx: sx(value), cy: sy(other), r: 3.4 },
        svg("title", {}, keys[i] + ": " + show(value, 3) + " → " + show(other, 3)),
      ),
    ];
  });
  const label = "Each image's score: " + b.name + " against " + a.name;
  return svg(
    "svg",
    { class: "small-plot " + familyClass(b.family), viewBox: "0 -16 520 336", role: "img", "aria-label": label },
    group,
    diagonal,
    dots,
    svg("text", { x: 4, y: -4 }, b.name),
  );
}
