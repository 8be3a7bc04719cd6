// Tables and the sections below the plot.
function sortable(columns, rows, attributes) {
  const body = html("tbody", {});
  const heads = columns.map(({ title, text }) => html("th", { scope: "col", class: text ? "text" : null, "aria-sort": "none" }));
  let [sorted, direction] = [-1, 1];
  function fill() {
    const order = rows.map((row, i) => [row, i]);
    if (sorted >= 0) {
      const value = columns[sorted].value;
      order.sort(([a, i], [b, k]) => {
        const [x, y] = [value(a), value(b)];
        const [missingX, missingY] = [x === null || x !== x, y === null || y !== y];
        if (missingX || missingY) return missingX - missingY || i - k;
        return (typeof x === "string" ? x.localeCompare(y) : x - y) * direction || i - k;
      });
    }
    body.replaceChildren(...order.map(([row]) => html("tr", attributes ? attributes(row) : {}, columns.map(({ cell, text, wrap }) => html("td", { class: [text && "text", wrap && "wrap"].filter(Boolean).join(" ") || null }, cell(row))))));
  }
  heads.forEach((head, i) => {
    head.append(html("button", { type: "button", onclick: () => {
      [sorted, direction] = sorted === i ? [i, -direction] : [i, columns[i].text ? 1 : -1];
      heads.forEach((other, k) => other.setAttribute("aria-sort", k !== i ? "none" : direction > 0 ? "ascending" : "descending"));
      fill();
    } }, columns[i].title));
  });
  fill();
  return { table: html("table", {}, html("thead", {}, html("tr", {}, heads)), body), fill };
}

const link = (model) => html("button", { type: "button", class: "link", onclick: () => { select(model); byId("explore").scrollIntoView(); byId("panel").focus({ preventScroll: true }); } }, model.name);
let modelTable = null;
function drawModelTable() {
  const axes = Object.entries(data.axes).filter(([axis]) => models.some((model) => model.scores[axis]));
  const columns = [
    { title: "Model", text: true, wrap: true, cell: (m) => [icon(m.family), " ", link(m), m.masked ? " ⚠" : ""], value: (m) => m.name },
    { title: "Family", text: true, cell: (m) => m.family, value: (m) => m.family },
    { title: "Source", text: true, cell: (m) => m.source, value: (m) => m.source },
    ...axes.map(([axis, { short, digits }]) => ({ title: short, cell: (m) => plusMinus(m.scores[axis], digits) + (axis === "accuracy" && m.ownAccuracy ? " (" + m.ownAccuracy + ")" : ""), value: (m) => (m.scores[axis] ? m.scores[axis][0] : NaN) })),
  ];
  if (models.some((model) => model.measured)) {
    columns.push({ title: "Median (L2)", cell: (m) => (m.median ? show(m.median[0], 3) : "–"), value: (m) => (!m.median ? NaN : m.median[0] === "inf" ? Infinity : m.median[0]) });
    const budgets = [...new Set(models.flatMap((model) => (model.robust || []).map(([eps]) => eps)))];
    const still = (m, eps) => (m.robust || []).find((share) => share[0] === eps);
    budgets.forEach((eps) => columns.push({ title: "Correct at L2 ≤ " + eps + " (%) *", cell: (m) => (still(m, eps) ? show(100 * still(m, eps)[1], 1) : "–"), value: (m) => (still(m, eps) ? still(m, eps)[1] : NaN) }));
    STATUSES.forEach((status, i) => columns.push({ title: status, cell: (m) => (m.counts ? m.counts[i] : "–"), value: (m) => (m.counts ? m.counts[i] : NaN) }));
  }
  const wanted = () => models.filter((model) => isShown(model) && matches(model));
  const rows = [];
  modelTable = sortable(columns, rows, (model) => ({ "data-model": model.index, class: state.selected === model ? "chosen" : null }));
  const count = html("p", { class: "quiet", role: "status" });
  modelTable.refresh = () => {
    rows.splice(0, rows.length, ...wanted());
    count.textContent = rows.length + " of " + models.length + " models. Scores ± standard error; alignments are shares of what people reach among themselves." + (rows.some((m) => m.robust) ? " * " + data.bound + "." : "");
    modelTable.fill();
  };
  byId("table").append(count, html("div", { class: "tall", tabindex: 0, "aria-label": "Table of models" }, modelTable.table));
  modelTable.refresh();
}

function drawCorrelations() {
  const forest = (item) => {
    if (!known(item.rho)) return "–";
    const at = (value) => 80 + 76 * value;
    const label = known(item.low) ? "from " + show(item.low, 2) + " to " + show(item.high, 2) : show(item.rho, 2);
    return svg("svg", { viewBox: "0 0 160 16", width: 160, height: 16, role: "img", "aria-label": label },
      svg("line", { class: "rule", x1: 4, x2: 156, y1: 8, y2: 8 }), svg("line", { class: "zero", x1: 80, x2: 80, y1: 2, y2: 14 }),
      known(item.low) ? svg("line", { class: "arrow", x1: at(item.low), x2: at(item.high), y1: 8, y2: 8 }) : null, svg("circle", { class: "arrow-head", cx: at(item.rho), cy: 8, r: 4 }));
  };
  const columns = [
    { title: "Scores", text: true, cell: (c) => c.x + " – " + c.y, value: (c) => c.x + c.y },
    { title: "Models", text: true, cell: (c) => c.group, value: (c) => c.group },
    { title: "Spearman ρ", cell: (c) => show(c.rho, 3), value: (c) => c.rho },
    { title: "95 % interval", cell: (c) => interval([0, 0, c.low, c.high], 3), value: (c) => c.low },
    { title: "−1 … 1", text: true, cell: forest, value: (c) => c.rho },
    { title: "p", cell: (c) => pValue(c.p), value: (c) => c.p },
    { title: "n", cell: (c) => c.n, value: (c) => c.n },
  ];
  const groups = new Set(data.sources.length > 1 ? [] : data.sources.map((source) => source.name)); // the same as "all"
  const rows = data.correlations.filter((item) => !groups.has(item.group));
  byId("correlations").append(html("p", { class: "quiet" }, "Over the models that have all scores, from " + data.fewest + " on; p is exact up to 9 models; intervals by bootstrap over models, from 10 on; “alignment” is adversarial alignment."), html("div", { class: "scroll" }, sortable(columns, rows).table));
}

function drawGrid() {
  if (!data.grid) return;
  const rows = data.grid.rows.map((row) => html("tr", { class: row.family ? familyClass(row.family) : null }, html("th", { scope: "row" }, row.label),
    row.pictures.map((picture, i) => html("td", {}, html("div", {}, image(picture, row.label + ", " + data.grid.keys[i]), row.radii ? html("span", {}, show(row.radii[i], 2)) : "")))));
  byId("grid").hidden = false;
  byId("grid").append(html("p", { class: "quiet" }, (data.magnification === 1 ? "Perturbations as they are" : "Perturbations are magnified " + data.magnification + " times") + "; numbers are their true L2 radii. “People”: the image, darkened where people do not look."), html("div", { class: "scroll", tabindex: 0, "aria-label": "Grid of examples" }, html("table", { class: "grid-table" }, rows)));
}

function drawPairs() {
  if (!data.comparisons.length) return;
  byId("pairs").hidden = false;
  byId("pairs").append(html("p", { class: "quiet" }, "Differences are second minus first over the images that both models got right (tolerance) or where both are defined (alignment); test: " + data.test + "."));
  for (const pair of data.comparisons) byId("pairs").append(drawPair(pair));
}
function drawPair(pair) {
  const [a, b] = [models[pair.a], models[pair.b]];
  const rows = Object.entries(pair.differences).map(([score, d]) => html("tr", {}, html("th", { class: "text", scope: "row" }, data.axes[score].short), html("td", {}, plusMinus([d.mean, d.se], 3)), html("td", {}, interval([0, 0, d.low, d.high], 3)), html("td", {}, pValue(d.p)), html("td", {}, d.n)));
  const head = html("tr", {}, ["Score", "Mean difference ± SE", "95 % interval", "p", "n"].map((text, i) => html("th", { class: i ? null : "text", scope: "col" }, text)));
  const choice = html("select", { "aria-label": "Score", onchange: () => fill() }, Object.keys(pair.differences).map((score) => html("option", { value: score }, data.axes[score].short)));
  const [chart, list] = [html("div", {}), html("div", { class: "scroll" })];
  function fill() {
    const [first, second] = pair.values[choice.value];
    const axis = data.axes[choice.value];
    chart.replaceChildren(pairPlot(a, b, pair.keys, first, second));
    const changed = pair.changed[choice.value].map((i) => html("tr", {}, html("td", { class: "text wrap" }, pair.keys[i]), html("td", {}, show(first[i], 3)), html("td", {}, show(second[i], 3)), html("td", {}, show(second[i] - first[i], 3))));
    list.replaceChildren(html("table", {}, html("thead", {}, html("tr", {}, html("th", { class: "text", scope: "col" }, "Changed most"), ["first", "second", "difference"].map((text) => html("th", { scope: "col" }, text)))), html("tbody", {}, changed)));
  }
  fill();
  return html("article", {}, html("h3", {}, a.name + " → " + b.name), html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), html("tbody", {}, rows))),
    html("p", {}, html("label", {}, "Per image: ", choice)), html("div", { class: "pair" }, chart, list));
}
function pairPlot(a, b, keys, first, second) {
  const values = [...first, ...second].filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.05;
  const domain = [low - pad, high + pad];
  const [width, height] = [520, 320];
  const { group, sx, sy } = smallAxes(width, height, domain, domain, a.name, 5);
  group.append(svg("line", { class: "zero", "stroke-dasharray": "4 3", x1: sx(domain[0]), y1: sy(domain[0]), x2: sx(domain[1]), y2: sy(domain[1]) }), svg("text", { x: 44, y: 16 }, b.name));
  const dots = first.map((value, i) => (known(value) && known(second[i]) ? svg("circle", { class: "fill", cx: sx(value), cy: sy(second[i]), r: 3.4 }, svg("title", {}, keys[i] + ": " + show(value, 3) + " → " + show(second[i], 3))) : null)).filter(Boolean);
  return svg("svg", { class: "small-plot " + familyClass(b.family), viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": "Each image's score: " + b.name + " against " + a.name }, group, ...dots);
}

function drawMethods() {
  const facts = data.facts.flatMap(([term, text]) => [html("dt", {}, term), html("dd", {}, text)]);
  const citation = html("pre", { id: "citation" }, data.citation);
  const copy = html("button", { type: "button", class: "copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(data.citation);
    } catch {
      const range = document.createRange(); // no clipboard for pages from disk in some browsers: select, then copy
      range.selectNodeContents(citation);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy citation"), 1500);
  } }, "Copy citation");
  byId("methods").append(html("dl", {}, facts), citation, copy);
}
