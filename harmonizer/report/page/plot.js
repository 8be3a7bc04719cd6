// The scatter plot.
const MARGIN = { left: 58, right: 14, top: 10, bottom: 44 };
const plot = /** @type {SVGSVGElement} */ (/** @type {unknown} */ (byId("plot")));
/** @type {Point[]} of the models shown */
let points = [];
/** @type {[number, number][]} of x and y, on the scales shown */
let domains = [];
/** @type {Label[]} */
let labels = [];

/** Ends of an error bar on the axis's scale; empty where there is none. @param {Model} model @param {string} axis */
function ends(model, axis) {
  const [value, se, low, high] = model.scores[axis] || [];
  const errors = known(value) && known(se) ? [value - se, value + se] : [];
  const both = { se: errors, interval: [low, high] }[state.bars] || [];
  const found = both.flatMap((end) => (plottable(axis, end) ? [toScale(axis, end)] : []));
  return found.length === 2 ? found : [];
}
/** @param {string} axis @param {Model[]} shown @returns {[number, number]} */
function fullDomain(axis, shown) {
  const values = shown.flatMap((model) => [toScale(axis, valueOf(model, axis)), ...ends(model, axis)]);
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low || 1) * 0.05;
  return [low - pad, high + pad];
}
/** Edges of the plot's frame. */
function frame() {
  const { width, height } = plot.getBoundingClientRect();
  const { left, right, top, bottom } = MARGIN;
  return { left, right: width - right, top, bottom: height - bottom, width, height };
}

const viewBox = () => "0 0 " + frame().width + " " + frame().height;

function draw() {
  const box = frame();
  if (!box.width) return;
  plot.setAttribute("viewBox", viewBox());
  const shown = models.filter((model) => isShown(model) && hasBoth(model));
  domains = state.view || [fullDomain(state.x, shown), fullDomain(state.y, shown)];
  const sx = scale(domains[0], [box.left, box.right]);
  const sy = scale(domains[1], [box.bottom, box.top]);
  plot.classList.toggle("crowd", shown.length > 60);
  const crowd = Math.min(1, Math.max(0.65, Math.sqrt(60 / (shown.length || 1)))); // many models: small markers
  points = shown.map((model) => {
    const size = (model.own ? 7 : !model.counted ? 3.4 : (model.measured ? 6.5 : 5) * crowd) + 0.6;
    const [x, y] = [sx(toScale(state.x, valueOf(model, state.x))), sy(toScale(state.y, valueOf(model, state.y)))];
    return { model, size, x, y };
  });
  points.sort((a, b) => +!!a.model.own - +!!b.model.own || +!!a.model.measured - +!!b.model.measured);
  const { left, right, top, bottom } = box;
  const inside = points.filter(({ x, y }) => x >= left && x <= right && y >= top && y <= bottom);
  const lines = arrows();
  const path = lines.flatMap((arrow) => arrow.path);
  labels = state.names === "1" ? placeLabels(inside, box, path) : [];
  const clip = svg("rect", { x: left, y: top, width: right - left, height: bottom - top });
  const inFrame = { "clip-path": "url(#clip)" };
  const marks = [errorBars(sx, sy), lines.flatMap((arrow) => arrow.marks), points.flatMap(markersOf)];
  plot.replaceChildren(
    svg("defs", {}, svg("clipPath", { id: "clip" }, clip)),
    axesOf(box, sx, sy),
    svg("g", inFrame, marks.flat(), drawLabels(labels)),
    svg("g", { id: "over", ...inFrame }),
  );
  highlight();
  byId("correlation").textContent = correlationText();
}

/** @param {ReturnType<typeof frame>} box @param {(v: number) => number} sx @param {(v: number) => number} sy */
function axesOf({ left, right, top, bottom }, sx, sy) {
  /** @param {string} axis @param {[number, number]} domain @param {number} count */
  const ticks = (axis, [low, high], count) => (onLog(axis) ? logTicks(low, high) : niceTicks(low, high, count));
  const across = ticks(state.x, domains[0], Math.max(3, (right - left) / 90)).flatMap(([value, told]) => [
    line("rule", sx(value), top, sx(value), bottom),
    text(told, sx(value), bottom + 17, "middle"),
  ]);
  const up = upAxis(ticks(state.y, domains[1], Math.max(3, (bottom - top) / 60)), sy, left, right);
  const edge = svg("path", { class: "frame", d: "M" + left + "," + top + "V" + bottom + "H" + right });
  const below = text(data.axes[state.x].title, (left + right) / 2, bottom + 37, "middle", "title");
  const turned = text(data.axes[state.y].title, 0, 0, "middle", "title");
  turned.setAttribute("transform", "translate(14," + (top + bottom) / 2 + ") rotate(-90)");
  return svg("g", {}, across, up, edge, below, turned);
}

/** @param {Model} model */
const fade = (model) => (matches(model) ? "" : " faded");

/** @param {(v: number) => number} sx @param {(v: number) => number} sy */
function errorBars(sx, sy) {
  return points.flatMap(({ model, x, y }) => {
    if (!model.counted) return [];
    const style = "bar " + familyClass(model.family) + (model.measured ? " measured" : "") + fade(model);
    const [across, up] = [ends(model, state.x).map(sx), ends(model, state.y).map(sy)];
    const width = across.length > 0 && line(style, across[0], y, across[1], y);
    return [width, up.length > 0 && line(style, x, up[0], x, up[1])];
  });
}

/** Arrows from controls to the models harmonized from them. @returns {{path: [number, number][], marks: Element[]}[]} */
function arrows() {
  const at = new Map(points.map((point) => [point.model, point]));
  return points.flatMap((point) => {
    const start = point.model.control === undefined ? undefined : at.get(models[point.model.control]);
    if (!start) return [];
    const length = Math.hypot(point.x - start.x, point.y - start.y);
    if (length < 26) return [];
    const [ux, uy] = [(point.x - start.x) / length, (point.y - start.y) / length];
    /** @param {number} back @param {number} aside @returns {[number, number]} */
    const from = (back, aside) => [point.x - back * ux + aside * uy, point.y - back * uy - aside * ux];
    const head = "M" + [from(11, 0), from(20, 4.5), from(20, -4.5)].join("L") + "Z";
    const marks = [
      line("arrow" + fade(point.model), ...from(length - 8, 0), ...from(17, 0)),
      svg("path", { class: "arrow-head" + fade(point.model), d: head }),
    ];
    return [{ path: Array.from({ length: Math.floor(length / 8) }, (_, i) => from(8 * i, 0)), marks }];
  });
}

/** @param {Point} point */
function markersOf({ model, x, y, size }) {
  const kind = !model.counted ? " uncounted" : model.measured ? " measured" : model.hollow ? " hollow" : "";
  return [
    model.own && svg("circle", { class: "halo" + fade(model), cx: x, cy: y, r: size + 5 }),
    marker(model.family, x, y, size - 0.6, "point" + kind + fade(model)),
    ownAccuracy(model) && svg("circle", { class: "own" + fade(model), cx: x, cy: y, r: 2 }),
    model.masked && svg("circle", { class: "ring" + fade(model), cx: x, cy: y, r: size + 5 }),
  ];
}

function highlight() {
  const marked = points.filter(({ model }) => model === state.selected || model === state.focused);
  const rings = marked.map(({ x, y, size }) => svg("circle", { class: "focus", cx: x, cy: y, r: size + 4 }));
  byId("over").replaceChildren(...rings);
}
