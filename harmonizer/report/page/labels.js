// Labels in the plot: their choice and placement. A label is nearest to its own marker, or a line joins the two.

/** @typedef {{model: Model, x: number, y: number, size: number}} Point on the screen, of a model shown */
/** @typedef {{point: Point, text: string, left: number, top: number, width: number, far: boolean}} Label */
const LABEL_HEIGHT = 12;
const MOST_LABELS = 24;
const MOST_ARROWS = 8; // most arrows whose heads must all be labelled
const NEARER = 2; // pixels by which a label's own marker is nearer than any other
const SIDES = [[1, -0.7], [1, 0.7], [-1, -0.7], [-1, 0.7], [1, 0], [-1, 0], [0, -1], [0, 1]]; // prettier-ignore
const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/** The points to label by importance: selected and own models, heads of arrows, extremes, the Pareto front, outliers.
 * @param {Point[]} points @returns {[Point[], number]} with the number that must be labelled */
function worthNaming(points) {
  const matching = points.filter(({ model }) => matches(model));
  const must = matching.filter(({ model }) => model === state.selected || model === state.focused);
  if (state.query && matching.length <= MOST_LABELS) must.push(...matching);
  const heads = matching.filter(({ model }) => model.control !== undefined);
  must.push(...matching.filter(({ model }) => model.own || model.named));
  if (heads.length <= MOST_ARROWS) must.push(...heads);
  const [byX, byY] = [[...matching].sort((a, b) => a.x - b.x), [...matching].sort((a, b) => a.y - b.y)];
  const extremes = [byY[0], byX[byX.length - 1], byY[byY.length - 1], byX[0]];
  const better = (/** @type {Point} */ q, /** @type {Point} */ p) =>
    q.x >= p.x && q.y <= p.y && (q.x > p.x || q.y < p.y);
  const front = matching.filter((p) => !matching.some((q) => better(q, p)));
  const far = new Map(matching.map((point) => [point, clearance(point, points)]));
  const apart = [...matching].sort((a, b) => (far.get(b) || 0) - (far.get(a) || 0)).slice(0, 12);
  const few = matching.length <= MOST_LABELS ? matching : [];
  const chosen = new Set([...must, ...extremes.filter(Boolean), ...front, ...few, ...heads, ...apart]);
  return [[...chosen].slice(0, Math.max(must.length, 60)), Math.min(new Set(must).size, MOST_LABELS)];
}
/** Distance to the third nearest of the others. @param {Point} point @param {Point[]} points */
const clearance = (point, points) =>
  Float64Array.from(points, ({ x, y }) => Math.hypot(x - point.x, y - point.y)).sort()[3] ?? Infinity;

/** The text of a label: for a harmonized model with its control the architecture, if that is unique.
 * @param {Model} model */
function labelText(model) {
  const alike = models.filter((other) => other.control !== undefined && other.architecture === model.architecture);
  const other = data.sources.length > 1 && model.measured ? " (" + model.source + ")" : ""; // another protocol
  return (model.control !== undefined && alike.length === 1 ? model.architecture : model.name) + other;
}

/** @param {Point[]} points @param {{left: number, top: number, right: number, bottom: number}} bounds
 * @param {[number, number][]} avoid further places that labels do not cover @returns {Label[]} */
function placeLabels(points, bounds, avoid) {
  const [wanted, must] = worthNaming(points);
  pen.font = "11px " + getComputedStyle(document.body).fontFamily;
  /** @type {Label[]} */
  const placed = [];
  for (const [rank, point] of wanted.entries()) {
    if (placed.length >= MOST_LABELS) break;
    const text = labelText(point.model);
    const width = pen.measureText(text).width;
    const places = (rank < must ? [5, 9, 22, 38, 56, 80, 110] : [5, 9]).flatMap((distance) =>
      SIDES.map(([right, down]) => {
        const left = point.x + right * (point.size + distance) - width * (0.5 - 0.5 * right);
        const top = point.y + down * (point.size + distance) - LABEL_HEIGHT / 2;
        return { point, text, width, left, top, far: distance > 9 };
      }),
    );
    /** @param {[number, number][]} lines */
    const free = (lines) => places.find((place) => fits(place, placed, points, bounds, lines));
    const label = free(avoid) || (rank < must ? free([]) : undefined); // a required label may cover an arrow
    if (label) placed.push(label);
  }
  return placed;
}

/** @param {Label} label @param {Label[]} placed @param {Point[]} points
 * @param {{left: number, top: number, right: number, bottom: number}} bounds @param {[number, number][]} avoid */
function fits(label, placed, points, bounds, avoid) {
  const [right, bottom] = [label.left + label.width, label.top + LABEL_HEIGHT];
  if (label.left < bounds.left || right > bounds.right || label.top < bounds.top || bottom > bounds.bottom)
    return false;
  const overlaps = (/** @type {Label} */ { left, top, width }) =>
    label.left < left + width + 3 && right > left - 3 && Math.abs(label.top - top) < LABEL_HEIGHT + 1;
  if (placed.some(overlaps)) return false;
  const own = distanceTo(label, label.point.x, label.point.y);
  const nearest = (/** @type {Point} */ p) => {
    const distance = distanceTo(label, p.x, p.y);
    return p !== label.point && (distance < p.size + 1 || (!label.far && distance < own + NEARER));
  };
  return !points.some(nearest) && !avoid.some(([x, y]) => distanceTo(label, x, y) < 2);
}

/** Distance of a place to a label's box. @param {Label} label @param {number} x @param {number} y */
function distanceTo(label, x, y) {
  const dx = Math.max(label.left - x, 0, x - label.left - label.width);
  return Math.hypot(dx, Math.max(label.top - y, 0, y - label.top - LABEL_HEIGHT));
}

/** @param {Label[]} labels */
const drawLabels = (labels) =>
  labels.flatMap(({ point, text, left, top, width, far }) => {
    const end = [Math.min(Math.max(point.x, left), left + width), point.y < top ? top : top + LABEL_HEIGHT];
    const style = "name" + (point.model.measured || point.model.own ? "" : " light");
    const place = { x: left, y: top + LABEL_HEIGHT - 3, "data-model": point.model.index };
    const name = svg("text", { class: style, ...place }, text);
    return [far && line("leader", point.x, point.y, end[0], end[1]), name];
  });
