// The scatter plot.
const state = { x: "accuracy", y: "tolerance", bars: "interval", log: false, names: true, query: "", hidden: new Set(), selected: null, focused: null, view: null };
const MARGIN = { left: 58, right: 14, top: 10, bottom: 46 };
const plot = byId("plot");
let points = []; // [{model, index, x, y}] on the screen, of the models shown
let domains = null; // [[low, high], [low, high]] on the scales now shown

const onLog = (axis) => state.log && axis.startsWith("tolerance");
const toScale = (axis, value) => (onLog(axis) ? Math.log10(value) : value);
const plottable = (axis, value) => known(value) && (!onLog(axis) || value > 0);
const has = (model, axis) => model.scores[axis] && plottable(axis, model.scores[axis][0]);
const matches = (model) => !state.query || [model.name, model.architecture, model.family].join(" ").toLowerCase().includes(state.query);
const ownAccuracy = (model) => model.ownAccuracy && [state.x, state.y].includes("accuracy");
const isShown = (model) => !state.hidden.has("family " + model.family) && !state.hidden.has("source " + model.source);

function fullDomain(axis, shown) {
  const values = shown.flatMap((model) => {
    const score = model.scores[axis];
    return [score[0], ...ends(score)].filter((value) => plottable(axis, value)).map((value) => toScale(axis, value));
  });
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.06;
  return [low - pad, high + pad];
}
function ends(score) {
  if (state.bars === "se") return known(score[1]) ? [score[0] - score[1], score[0] + score[1]] : [];
  return state.bars && known(score[2]) ? [score[2], score[3]] : [];
}

function draw() {
  const { width, height } = plot.getBoundingClientRect();
  if (!width) return;
  plot.setAttribute("viewBox", "0 0 " + width + " " + height);
  const shown = models.filter((model) => isShown(model) && has(model, state.x) && has(model, state.y));
  domains = state.view || [fullDomain(state.x, shown), fullDomain(state.y, shown)];
  const ranges = [[MARGIN.left, width - MARGIN.right], [height - MARGIN.bottom, MARGIN.top]];
  const [sx, sy] = [scale(domains[0], ranges[0]), scale(domains[1], ranges[1])];
  points = shown.map((model) => ({ model, x: sx(toScale(state.x, model.scores[state.x][0])), y: sy(toScale(state.y, model.scores[state.y][0])) }));
  points.sort((a, b) => a.model.measured - b.model.measured);
  const clip = svg("clipPath", { id: "clip" }, svg("rect", { x: ranges[0][0], y: ranges[1][1], width: ranges[0][1] - ranges[0][0], height: ranges[1][0] - ranges[1][1] }));
  plot.replaceChildren(svg("defs", {}, clip), axesOf(ranges, sx, sy), svg("g", { "clip-path": "url(#clip)" }, errorBars(sx, sy), arrows(), markers(), names(ranges)), svg("g", { id: "over", "clip-path": "url(#clip)" }));
  highlight();
  describe(points.filter((point) => matches(point.model)).length);
}

function axesOf(ranges, sx, sy) {
  const [[left, right], [bottom, top]] = ranges;
  const group = svg("g", {});
  const ticks = (axis, domain, count) => (onLog(axis) ? logTicks(...domain) : niceTicks(...domain, count));
  for (const [value, label] of ticks(state.x, domains[0], Math.max(3, (right - left) / 90)))
    group.append(svg("line", { class: "rule", x1: sx(value), x2: sx(value), y1: top, y2: bottom }), svg("text", { x: sx(value), y: bottom + 17, "text-anchor": "middle" }, label));
  for (const [value, label] of ticks(state.y, domains[1], Math.max(3, (bottom - top) / 60)))
    group.append(svg("line", { class: value === 0 ? "zero" : "rule", x1: left, x2: right, y1: sy(value), y2: sy(value) }), svg("text", { x: left - 7, y: sy(value) + 4, "text-anchor": "end" }, label));
  group.append(
    svg("path", { class: "frame", d: "M" + left + "," + top + "V" + bottom + "H" + right }),
    svg("text", { class: "title", x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, data.axes[state.x].title),
    svg("text", { class: "title", transform: "translate(14," + (top + bottom) / 2 + ") rotate(-90)", "text-anchor": "middle" }, data.axes[state.y].title),
  );
  return group;
}

function errorBars(sx, sy) {
  return points.filter(({ model }) => model.counted).flatMap(({ model, x, y }) => {
    const style = "bar " + familyClass(model.family) + (model.measured ? " measured" : "") + (matches(model) ? "" : " faded");
    const across = ends(model.scores[state.x]).filter((value) => plottable(state.x, value)).map((value) => sx(toScale(state.x, value)));
    const up = ends(model.scores[state.y]).filter((value) => plottable(state.y, value)).map((value) => sy(toScale(state.y, value)));
    return [across.length === 2 && svg("line", { class: style, x1: across[0], x2: across[1], y1: y, y2: y }), up.length === 2 && svg("line", { class: style, x1: x, x2: x, y1: up[0], y2: up[1] })].filter(Boolean);
  });
}

function arrows() {
  const at = new Map(points.map((point) => [point.model, point]));
  return points.flatMap((point) => {
    const control = point.model.control === null ? undefined : at.get(models[point.model.control]);
    if (!control) return [];
    const [dx, dy] = [point.x - control.x, point.y - control.y];
    const length = Math.hypot(dx, dy);
    if (length < 26) return [];
    const [ux, uy] = [dx / length, dy / length];
    const [x, y] = [point.x - 11 * ux, point.y - 11 * uy];
    const fade = matches(point.model) ? "" : " faded";
    const head = "M" + x + "," + y + "L" + (x - 9 * ux - 4.5 * uy) + "," + (y - 9 * uy + 4.5 * ux) + "L" + (x - 9 * ux + 4.5 * uy) + "," + (y - 9 * uy - 4.5 * ux) + "Z";
    return [svg("line", { class: "arrow" + fade, x1: control.x + 8 * ux, y1: control.y + 8 * uy, x2: x - 6 * ux, y2: y - 6 * uy }), svg("path", { class: "arrow-head" + fade, d: head })];
  });
}

function markers() {
  return points.flatMap(({ model, x, y }) => {
    const look = !model.counted ? " uncounted" : model.measured ? " measured" : model.hollow ? " hollow" : "";
    const style = "point " + familyClass(model.family) + look + (matches(model) ? "" : " faded");
    const size = !model.counted ? 3.6 : model.measured ? 6.5 : 4.4;
    const dot = ownAccuracy(model) ? [svg("circle", { class: "own" + (matches(model) ? "" : " faded"), cx: x, cy: y, r: 2 })] : [];
    const ring = model.masked ? [svg("circle", { class: "ring" + (matches(model) ? "" : " faded"), cx: x, cy: y, r: size + 6 })] : [];
    return [marker(model.family, x, y, size, { class: style }), ...dot, ...ring];
  });
}

function names(ranges) {
  const wanted = points.filter(({ model }) => matches(model) && (model.measured || state.query));
  if (!state.names || wanted.length > 40) return [];
  if (!state.query) wanted.push(...outstanding().filter((point) => !point.model.measured).slice(0, 14));
  const taken = points.map(({ x, y }) => [x - 5, y - 5, x + 5, y + 5]);
  return wanted.flatMap(({ model, x, y }) => {
    const width = 6.1 * model.name.length;
    for (const [dx, dy] of [[9, -8], [-9 - width, -8], [9, 16], [-9 - width, 16], [-width / 2, -13], [-width / 2, 21], [11, 4], [-11 - width, 4]]) {
      const box = [x + dx, y + dy - 10, x + dx + width, y + dy + 3];
      const inside = box[0] >= ranges[0][0] && box[2] <= ranges[0][1] && box[1] >= ranges[1][1] && box[3] <= ranges[1][0];
      if (inside && !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) {
        taken.push(box);
        return [svg("text", { class: model.measured ? "name" : "name light", x: x + dx, y: y + dy }, model.name)];
      }
    }
    return [];
  });
}

function outstanding() { // points by the distance to their third nearest neighbour, farthest first
  const near = (point) => points.map((other) => Math.hypot(point.x - other.x, point.y - other.y)).sort((a, b) => a - b)[Math.min(3, points.length - 1)];
  return points.map((point) => [near(point), point]).sort((a, b) => b[0] - a[0]).map(([, point]) => point);
}

// The correlation is over the models that count, as everywhere in the report: harmonizer.report.correlations.comparable.
function describe(shown) {
  const drawn = models.filter((m) => isShown(m) && matches(m) && [state.x, state.y].every((axis) => m.scores[axis] && known(m.scores[axis][0])));
  const counted = drawn.filter((model) => model.counted);
  const rho = spearman(...[state.x, state.y].map((axis) => counted.map((m) => m.scores[axis][0])));
  const sources = new Set(counted.map((model) => model.source)).size;
  let text = "";
  if (state.x !== state.y && counted.length < data.fewest) text = ", no rank correlation of " + counted.length + " (it takes " + data.fewest + ")";
  else if (state.x !== state.y && known(rho)) text = ", Spearman ρ = " + show(rho, 3) + " over " + counted.length + (sources > 1 ? " across " + sources + " protocols" : "");
  const lacking = drawn.length - counted.length;
  const signs = [lacking && lacking + " grey: they lack a score and are not in the correlation", drawn.some(ownAccuracy) && "white dot: accuracy measured here or of its own table, not the table’s"].filter(Boolean);
  byId("correlation").textContent = [shown + " of " + models.length + " models shown" + text, ...signs].join("; ");
}

// Hover, focus, choice.
function nearest(x, y, reach) {
  let [best, closest] = [null, reach];
  for (const point of points) {
    const distance = Math.hypot(point.x - x, point.y - y);
    if (distance < closest && matches(point.model)) [best, closest] = [point, distance];
  }
  return best;
}
function highlight() {
  const over = byId("over");
  const marked = [state.selected, state.focused].filter(Boolean);
  over.replaceChildren(...points.filter((p) => marked.includes(p.model)).map((p) => svg("circle", { class: "focus", cx: p.x, cy: p.y, r: 11 })));
}
function summary(model) {
  const line = (axis) => data.axes[axis].short + ": " + plusMinus(model.scores[axis], data.axes[axis].digits) + (known((model.scores[axis] || [])[2]) ? " " + interval(model.scores[axis], data.axes[axis].digits) : "");
  const n = model.scores.tolerance && model.scores.tolerance[4];
  const lines = [model.family + " · " + model.source, line(state.y), line(state.x)];
  if (n) lines.push("n = " + n + " images");
  if (model.counts) lines.push(STATUSES.map((status, i) => model.counts[i] + " " + status).join(", "));
  if (model.masked) lines.push("⚠ gradients look masked");
  return lines;
}
function focusOn(point, speak) {
  state.focused = point ? point.model : null;
  highlight();
  const tip = byId("tooltip");
  tip.hidden = !point;
  if (!point) return;
  const lines = summary(point.model);
  tip.replaceChildren(html("b", {}, point.model.name), ...lines.map((text) => html("div", {}, text)));
  const box = plot.getBoundingClientRect();
  const top = plot.offsetTop;
  tip.style.left = Math.max(0, Math.min(point.x + 16, box.width - tip.offsetWidth - 4)) + "px";
  tip.style.top = (point.y + 18 + tip.offsetHeight > box.height ? top + point.y - tip.offsetHeight - 14 : top + point.y + 18) + "px";
  if (speak) byId("announce").textContent = [point.model.name, ...lines].join(", ");
}
function step(dx, dy) {
  const here = points.find((point) => point.model === state.focused);
  const usable = points.filter((point) => matches(point.model));
  if (!here) return focusOn(usable[0] || null, true);
  let [best, cost] = [null, Infinity];
  for (const point of usable) {
    const [ax, ay] = [point.x - here.x, point.y - here.y];
    const along = ax * dx + ay * dy;
    const aside = Math.abs(ax * dy) + Math.abs(ay * dx);
    if (along > 0.01 && along + 2 * aside < cost) [best, cost] = [point, along + 2 * aside];
  }
  if (best) focusOn(best, true);
}

// Zoom.
function zoomTo(view) {
  state.view = view;
  focusOn(null);
  draw();
}
function zoomBy(factor, at) {
  const { width, height } = plot.getBoundingClientRect();
  const [px, py] = at || [(MARGIN.left + width - MARGIN.right) / 2, (MARGIN.top + height - MARGIN.bottom) / 2];
  const share = [(px - MARGIN.left) / (width - MARGIN.left - MARGIN.right), (height - MARGIN.bottom - py) / (height - MARGIN.top - MARGIN.bottom)];
  zoomTo(domains.map(([low, high], i) => [low + (high - low) * share[i] * (1 - factor), high - (high - low) * (1 - share[i]) * (1 - factor)]));
}
function watchPlot() {
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let drag = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") drag = at(event);
  });
  plot.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (drag && Math.hypot(x - drag[0], y - drag[1]) > 6) {
      const box = { x: Math.min(x, drag[0]), y: Math.min(y, drag[1]), width: Math.abs(x - drag[0]), height: Math.abs(y - drag[1]) };
      byId("over").replaceChildren(svg("rect", { class: "box", ...box }));
      byId("tooltip").hidden = true;
    } else focusOn(nearest(x, y, event.pointerType === "touch" ? 30 : 18));
  });
  plot.addEventListener("pointerleave", () => focusOn(null));
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const [[x, y], [x0, y0]] = [at(event), drag];
    drag = null;
    if (Math.abs(x - x0) < 12 || Math.abs(y - y0) < 12) return highlight();
    const { width, height } = plot.getBoundingClientRect();
    const [ux, uy] = [unscale(domains[0], [MARGIN.left, width - MARGIN.right]), unscale(domains[1], [height - MARGIN.bottom, MARGIN.top])];
    zoomTo([[ux(Math.min(x, x0)), ux(Math.max(x, x0))], [uy(Math.max(y, y0)), uy(Math.min(y, y0))]]);
  });
  plot.addEventListener("click", (event) => {
    const point = nearest(...at(event), 22);
    if (point) select(point.model);
  });
  plot.addEventListener("dblclick", () => zoomTo(null));
  plot.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 0.8 : 1.25, at(event));
  }, { passive: false });
  plot.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) step(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") state.focused && select(state.focused);
    else if (event.key === "+" || event.key === "=") zoomBy(0.7);
    else if (event.key === "-") zoomBy(1 / 0.7);
    else if (event.key === "0") zoomTo(null);
    else if (event.key === "Escape") select(null);
    else return;
    event.preventDefault();
  });
  plot.addEventListener("blur", () => focusOn(null));
}
