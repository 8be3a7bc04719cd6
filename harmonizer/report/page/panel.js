// What is known of one model.
function smallAxes(width, height, xDomain, yDomain, xTitle, yTicks) {
  const [left, right, top, bottom] = [40, width - 8, 6, height - 32];
  const [sx, sy] = [scale(xDomain, [left, right]), scale(yDomain, [bottom, top])];
  const group = svg("g", {});
  for (const [value, label] of niceTicks(...xDomain, 5)) group.append(svg("text", { x: sx(value), y: bottom + 14, "text-anchor": "middle" }, label));
  for (const [value, label] of niceTicks(...yDomain, yTicks || 3))
    group.append(svg("line", { class: "rule", x1: left, x2: right, y1: sy(value), y2: sy(value) }), svg("text", { x: left - 5, y: sy(value) + 4, "text-anchor": "end" }, label));
  group.append(svg("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle));
  return { group, sx, sy, bottom };
}
const SMALL = { width: 360, height: 150 };
const smallPlot = (label, ...children) => svg("svg", { class: "small-plot", viewBox: "0 0 " + SMALL.width + " " + SMALL.height, role: "img", "aria-label": label }, ...children);

function histogram(model) {
  const { edges, counts, censored } = model.histogram;
  const most = Math.max(...counts, censored, 1);
  const width = edges[1] - edges[0];
  const last = edges[edges.length - 1];
  const { group, sx, sy, bottom } = smallAxes(SMALL.width, SMALL.height, [edges[0], last + (censored ? 2.5 * width : 0)], [0, most], "radius (L2)" + (censored ? "; green: never fooled" : ""));
  const bar = (from, to, count, style) => svg("rect", { class: style, x: sx(from) + 0.5, width: Math.max(0.5, sx(to) - sx(from) - 1), y: sy(count), height: bottom - sy(count) }, svg("title", {}, count + " images"));
  const bars = counts.map((count, i) => bar(edges[i], edges[i + 1], count, "fill"));
  if (censored) bars.push(bar(last + width, last + 2 * width, censored, "fill censored"));
  return smallPlot("Histogram of the smallest radii that fool " + model.name, group, ...bars);
}
function survival(model, other) {
  const last = Math.max(...model.survival[0], ...(other ? other.survival[0] : []));
  const flat = ([xs, ys]) => [[...xs, last], [...ys, ys[ys.length - 1]]]; // nothing changes beyond the last radius
  const { group, sx, sy } = smallAxes(SMALL.width, SMALL.height, [0, last], [0, 100], "radius (L2)");
  const path = ([xs, ys]) => "M" + xs.map((x, i) => sx(x).toFixed(1) + "," + sy(100 * ys[i]).toFixed(1)).join("L");
  const second = other ? [svg("path", { class: "curve second", d: path(flat(other.survival)) })] : [];
  return smallPlot("Share of images still correct against the radius", group, ...second, svg("path", { class: "curve", d: path(flat(model.survival)) }));
}
function statusBar(model) {
  const total = model.counts.reduce((sum, count) => sum + count, 0) || 1;
  const parts = STATUSES.map((status, i) => {
    const part = html("i", { class: "s" + i, title: model.counts[i] + " " + status });
    part.style.flex = model.counts[i] / total + " 0 0";
    return model.counts[i] ? part : null;
  });
  const names = STATUSES.map((status, i) => html("span", {}, html("i", { class: "s" + i }), model.counts[i] + " " + status));
  return [html("div", { class: "stack", "aria-hidden": "true" }, parts), html("div", { class: "legend" }, names)];
}
const image = (picture, alt) => html("img", { src: data.pictures[picture][0], class: data.pictures[picture][1] ? "small" : null, alt });
function examples(model) {
  return model.examples.map((example) => {
    const captions = ["image", "where people look", data.magnification === 1 ? "attacked" : "attacked, × " + data.magnification, "attack map"];
    const cells = example.pictures.map((picture, i) => html("figure", {}, image(picture, captions[i] + " of " + example.key), captions[i]));
    return [html("p", { class: "quiet" }, example.key + ", radius " + show(example.radius, 3)), html("div", { class: "pictures" }, cells)];
  });
}
function scoreTable(model) {
  const rows = Object.entries(data.axes).filter(([axis]) => model.scores[axis]).map(([axis, { short, digits }]) => {
    const score = model.scores[axis];
    return html("tr", {}, html("th", { class: "text", scope: "row" }, short), html("td", {}, plusMinus(score, digits)), html("td", {}, interval(score, digits)), html("td", {}, score[4] || "–"));
  });
  if (model.median) rows.push(html("tr", {}, html("th", { class: "text", scope: "row" }, "Median radius"), html("td", {}, show(model.median[0], 3)), html("td", {}, interval([0, 0, ...model.median.slice(1)], 3)), html("td", {}, model.median[3] || "–")));
  const head = html("tr", {}, ["Score", "± SE", "95 % interval", "n"].map((text, i) => html("th", { class: i ? null : "text", scope: "col" }, text)));
  return html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), html("tbody", {}, rows)));
}

function select(model) {
  state.selected = model;
  highlight();
  for (const row of document.querySelectorAll("tr[data-model]")) row.classList.toggle("chosen", model !== null && +row.dataset.model === model.index);
  const panel = byId("panel");
  document.querySelector(".stage").classList.toggle("open", model !== null);
  panel.className = model ? familyClass(model.family) : "";
  panel.replaceChildren(...(model ? describeModel(model) : []));
  draw();
}
function describeModel(model) {
  const close = html("button", { type: "button", "aria-label": "Close", onclick: () => (select(null), plot.focus()) }, "×");
  const facts = [model.family, model.parameters ? (model.parameters / 1e6).toFixed(2) + " M parameters" : "", model.input ? model.input + " px" : "", model.training || ""].filter(Boolean).join(" · ");
  const control = model.control === null ? null : models[model.control];
  const parts = [html("header", {}, html("div", {}, html("h3", {}, icon(model.family), " ", model.name), html("div", { class: "quiet" }, facts)), close)];
  if (model.masked) parts.push(html("p", { class: "warning" }, "Gradients look masked: " + (model.reasons.join("; ") || "see its gradient-masking report") + ". Its tolerance cannot be trusted."));
  parts.push(scoreTable(model));
  if (model.counts) parts.push(html("h4", {}, "Images"), ...statusBar(model));
  if (model.histogram) parts.push(html("h4", {}, "Smallest radius that fools it, per image"), histogram(model));
  if (model.survival) parts.push(html("h4", {}, "Images still correct (%)" + (control && control.survival ? "; dashed: " + control.name : "")), survival(model, control && control.survival ? control : null));
  if (model.examples.length) parts.push(html("h4", {}, "Attacked examples"), ...examples(model).flat());
  parts.push(html("p", { class: "hint" }, "Source: " + model.source + ". " + (data.sources.find((source) => source.name === model.source) || { protocol: "" }).protocol));
  return parts;
}
