// The panel of a model.
const SMALL = { width: 360, height: 150 };

/** Axes of a small plot. @param {{width: number, height: number}} size @param {number[]} across @param {number[]} up
 * @param {string} title @param {number} [count] of ticks */
function smallAxes({ width, height }, across, up, title, count = 3) {
  const [left, right, top, bottom] = [40, width - 8, 6, height - 32];
  const [sx, sy] = [scale(across, [left, right]), scale(up, [bottom, top])];
  const below = niceTicks(across[0], across[1], 5).map(([value, told]) => text(told, sx(value), bottom + 14, "middle"));
  const rules = upAxis(niceTicks(up[0], up[1], count), sy, left, right);
  const name = text(title, (left + right) / 2, height - 4, "middle");
  return { group: svg("g", {}, below, rules, name), sx, sy, bottom };
}
/** @param {string} told @param {...(Child | Child[])} children */
const smallPlot = (told, ...children) => {
  const viewBox = "0 0 " + SMALL.width + " " + SMALL.height;
  return svg("svg", { class: "small-plot", viewBox, role: "img", "aria-label": told }, ...children);
};

/** @param {Model} model @param {Histogram} histogram */
function histogramOf(model, { last, counts, censored }) {
  const width = last / counts.length;
  const across = [0, last + (censored ? 2.5 * width : 0)];
  const title = "radius (L2)" + (censored ? "; green: never fooled" : "");
  const { group, sx, sy, bottom } = smallAxes(SMALL, across, [0, Math.max(...counts, censored, 1)], title);
  /** @param {number} from @param {number} count @param {string} style */
  const bar = (from, count, style) => {
    const [left, right] = [sx(from), sx(from + width)];
    const place = { x: left + 0.5, width: Math.max(0.5, right - left - 1), y: sy(count), height: bottom - sy(count) };
    return svg("rect", { class: style, ...place }, svg("title", {}, count + " images"));
  };
  const bars = counts.map((count, i) => bar(i * width, count, "fill"));
  if (censored) bars.push(bar(last + width, censored, "fill censored"));
  return smallPlot("Histogram of the smallest radii that fool " + model.name, group, bars);
}

/** Images still correct against the radius. @param {Survival} curve @param {Survival} [other] */
function survivalOf(curve, other) {
  const last = Math.max(curve.last, other ? other.last : 0);
  const { group, sx, sy } = smallAxes(SMALL, [0, last], [0, 100], "radius (L2)");
  /** The curve is constant beyond the last radius. @param {Survival} curve @param {string} style */
  const path = (curve, style) => {
    const step = curve.last / (curve.shares.length - 1);
    const places = curve.shares.map((share, i) => sx(i * step).toFixed(1) + "," + sy(100 * share).toFixed(1));
    return svg("path", { class: style, d: "M" + places.join("L") + "H" + sx(last).toFixed(1) });
  };
  const told = "Share of images still correct against the radius";
  return smallPlot(told, group, other && path(other, "curve second"), path(curve, "curve"));
}

/** @param {number[]} counts of images by status */
function statusBar(counts) {
  const part = (/** @type {number} */ i) => html("i", { class: "s" + i, style: "flex:" + counts[i] + " 0 0" });
  const parts = STATUSES.map((_, i) => counts[i] > 0 && part(i));
  const names = STATUSES.map((status, i) => html("span", {}, html("i", { class: "s" + i }), counts[i] + " " + status));
  return [html("div", { class: "stack", "aria-hidden": "true" }, parts), html("div", { class: "legend" }, names)];
}

/** @param {string[]} names @param {Child[][]} rows the first column is text */
function plainTable(names, rows) {
  const head = names.map((name, i) => html("th", { class: i ? null : "text", scope: "col" }, name));
  const body = rows.map(([name, ...cells]) => {
    const others = cells.map((content) => html("td", {}, content));
    return html("tr", {}, html("th", { class: "text wrap", scope: "row" }, name), others);
  });
  return html("table", {}, html("thead", {}, html("tr", {}, head)), html("tbody", {}, body));
}
/** @param {Model} model */
function scoreTable(model) {
  /** @param {string} name @param {number} digits @param {Score} score */
  const row = (name, digits, [value, se, low, high, n]) =>
    [name, plusMinus([value, se], digits), interval(low, high, digits), n || "–"]; // prettier-ignore
  const having = axes.filter((axis) => model.scores[axis]);
  const rows = having.map((axis) => row(data.axes[axis].short, data.axes[axis].digits, model.scores[axis]));
  if (model.median) rows.push(row("Median radius", 3, [model.median[0], null, ...model.median.slice(1)]));
  return plainTable(["Score", "± SE", "95 % interval", "n"], rows);
}

/** Open a model's panel, or close it. @param {Model | null} model @param {boolean} [step] whether a reader did it, so that
 * it is remembered and drawn */
function select(model, step = true) {
  state.selected = model;
  for (const row of all("#models tbody tr"))
    row.classList.toggle("chosen", model !== null && +(row.dataset.model || -1) === model.index);
  const panel = byId("panel");
  byId("about").hidden = model !== null;
  panel.hidden = model === null;
  panel.className = model ? familyClass(model.family) : "";
  panel.replaceChildren(...(model ? describeModel(model) : []));
  all(".scroll", panel).forEach(hintAtMore);
  if (!step) return;
  remember();
  draw();
}
/** @param {Model} model */
function describeModel(model) {
  const close = () => (select(null), plot.focus());
  const size = model.parameters ? (model.parameters / 1e6).toFixed(2) + " M parameters" : "";
  const facts = [model.family, size, model.input ? model.input + " px" : "", model.training];
  const title = html("h3", {}, icon(model.family), " ", model.name);
  const other = model.control === undefined ? undefined : models[model.control];
  const dashed = other && other.survival ? "; dashed: " + other.name : "";
  const source = data.sources.find(({ name }) => name === model.source);
  const reasons = (model.reasons || []).join("; ") || "see its gradient-masking report";
  const masked = "Gradients look masked: " + reasons + ". Its tolerance cannot be trusted.";
  /** Content below a heading; empty without content. @param {string} told @param {Child[]} content */
  const part = (told, content) => (content.some(Boolean) ? [html("h4", {}, told), ...content] : []);
  const parts = [
    html(
      "header",
      {},
      html("div", {}, title, html("div", { class: "quiet" }, facts.filter(Boolean).join(" · "))),
      html("button", { type: "button", "aria-label": "Close", onclick: close }, "×"),
    ),
    model.masked && html("p", { class: "warning" }, masked),
    scrollBox("Scores", scoreTable(model)),
    ...part("Images", model.counts ? statusBar(model.counts) : []),
    ...part("Smallest radius that fools it, per image", [model.histogram && histogramOf(model, model.histogram)]),
    ...part("Images still correct (%)" + dashed, [model.survival && survivalOf(model.survival, other?.survival)]),
    ...part("Attacked examples; colours of maps: 0 to " + SHARED + " times the mean", examplesOf(model)),
    html("p", { class: "hint" }, "Protocol: " + (source ? source.name + ", " + source.protocol : model.source) + "."),
  ];
  return /** @type {Element[]} */ (parts.filter(Boolean));
}
