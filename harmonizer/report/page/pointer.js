// Mouse, touch and keyboard on the plot; the tooltip.
const GAP = 14; // pixels between pointer and tooltip

/** The matching point with the least cost. @param {(point: Point) => number} cost @param {number} [limit] */
function cheapest(cost, limit = Infinity) {
  const costs = points.map((point) => (matches(point.model) ? cost(point) : Infinity));
  const least = Math.min(...costs);
  return least < limit ? points[costs.indexOf(least)] : null;
}
/** @param {number} x @param {number} y @param {number} reach in pixels */
const nearest = (x, y, reach) => cheapest((point) => Math.hypot(point.x - x, point.y - y), reach);
/** @param {Model} model */
function summary(model) {
  /** @param {string} axis */
  const told = (axis) => {
    const { short, digits } = data.axes[axis];
    const score = model.scores[axis] || [];
    const ends = known(score[2]) ? " " + interval(score[2], score[3], digits) : "";
    return short + ": " + plusMinus(score, digits) + ends;
  };
  const n = (model.scores.tolerance || [])[4];
  return [
    model.family + " · " + model.source,
    told(state.y),
    told(state.x),
    n ? "n = " + n + " images" : "",
    model.counts ? STATUSES.map((status, i) => (model.counts || [])[i] + " " + status).join(", ") : "",
    model.masked ? "⚠ gradients look masked" : "",
  ].filter(Boolean);
}

/** Focus a model: a ring around it, and a tooltip at the pointer or at the point.
 * @param {Point | null} point @param {{clientX: number, clientY: number} | null} [pointer] @param {string} [hint] */
function focusOn(point, pointer = null, hint = "") {
  state.focused = point ? point.model : null;
  highlight();
  const tip = byId("tooltip");
  tip.hidden = !point;
  if (!point) return;
  const lines = [...summary(point.model), hint].filter(Boolean);
  tip.replaceChildren(html("b", {}, point.model.name), ...lines.map((text) => html("div", {}, text)));
  const box = plot.getBoundingClientRect();
  const [x, y] = pointer ? [pointer.clientX, pointer.clientY] : [box.left + point.x, box.top + point.y];
  const { clientWidth, clientHeight } = document.documentElement;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + GAP + width <= clientWidth ? x + GAP : x - GAP - width;
  const top = y + GAP + height <= clientHeight ? y + GAP : y - GAP - height;
  tip.style.left = Math.max(0, Math.min(left, clientWidth - width)) + "px";
  tip.style.top = Math.max(0, Math.min(top, clientHeight - height)) + "px";
  if (!pointer) byId("announce").textContent = [point.model.name, ...lines].join(", ");
}

/** Move the focus to the next point in a direction. @param {number} dx @param {number} dy */
function step(dx, dy) {
  const here = points.find((point) => point.model === state.focused);
  if (!here) return focusOn(cheapest(() => 0));
  const next = cheapest(({ x, y }) => {
    const along = (x - here.x) * dx + (y - here.y) * dy;
    const aside = Math.abs((x - here.x) * dy) + Math.abs((y - here.y) * dx);
    return along > 0.01 ? along + 2 * aside : Infinity;
  });
  if (next) focusOn(next);
}

/** Open the focused model's panel; the tooltip follows its point, which may move. */
function openFocused() {
  if (!state.focused) return;
  select(state.focused);
  focusOn(points.find((point) => point.model === state.focused) || null);
}

/** @param {[number, number][] | null} view */
function zoomTo(view) {
  state.view = view;
  focusOn(null);
  draw();
  remember();
}
/** @param {number} factor @param {number[]} [at] the fixed point; the centre by default */
function zoomBy(factor, at) {
  const { left, right, top, bottom } = frame();
  const [x, y] = at || [(left + right) / 2, (top + bottom) / 2];
  const share = [(x - left) / (right - left), (bottom - y) / (bottom - top)];
  /** @param {[number, number]} domain @param {number} i @returns {[number, number]} */
  const closer = ([low, high], i) => {
    const cut = (high - low) * (1 - factor);
    return [low + cut * share[i], high - cut * (1 - share[i])];
  };
  zoomTo(domains.map(closer));
}
/** @param {number[]} from @param {number[]} to corners of a rectangle on the screen */
function zoomInto(from, to) {
  const { left, right, top, bottom } = frame();
  /** @param {number[]} range @param {number} i @returns {[number, number]} */
  const within = (range, i) => {
    const [a, b] = [from[i], to[i]].map(scale(range, domains[i]));
    return [Math.min(a, b), Math.max(a, b)];
  };
  zoomTo([within([left, right], 0), within([bottom, top], 1)]);
}

function watchPlot() {
  /** @param {MouseEvent} event @returns {[number, number]} */
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  /** @type {[number, number] | null} */
  let drag = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType === "mouse") drag = at(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return; // a tap focuses, a swipe scrolls
    const [x, y] = at(event);
    if (!drag || Math.hypot(x - drag[0], y - drag[1]) <= 6) return focusOn(nearest(x, y, 18), event);
    const corner = { x: Math.min(x, drag[0]), y: Math.min(y, drag[1]) };
    const size = { width: Math.abs(x - drag[0]), height: Math.abs(y - drag[1]) };
    byId("over").replaceChildren(svg("rect", { class: "box", ...corner, ...size }));
    byId("tooltip").hidden = true;
  });
  plot.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && focusOn(null));
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const [from, to] = [drag, at(event)];
    drag = null;
    if (Math.abs(to[0] - from[0]) < 12 || Math.abs(to[1] - from[1]) < 12) highlight();
    else zoomInto(from, to);
  });
  plot.addEventListener("click", (event) => {
    const touch = /** @type {PointerEvent} */ (event).pointerType === "touch";
    const point = nearest(...at(event), touch ? 30 : 22);
    if (touch && point && state.focused !== point.model) focusOn(point, event, "Tap again for its images.");
    else focusOn(null);
    if (point && !state.focused) select(point.model);
  });
  plot.addEventListener("dblclick", () => zoomTo(null));
  const wheel = (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 0.8 : 1.25, at(event));
  };
  plot.addEventListener("wheel", wheel, { passive: false });
  /** @type {Record<string, () => unknown>} */
  const keys = {
    ArrowLeft: () => step(-1, 0),
    ArrowRight: () => step(1, 0),
    ArrowUp: () => step(0, -1),
    ArrowDown: () => step(0, 1),
    Enter: () => openFocused(),
    " ": () => openFocused(),
    "+": () => zoomBy(0.7),
    "=": () => zoomBy(0.7),
    "-": () => zoomBy(1 / 0.7),
    0: () => zoomTo(null),
    Escape: () => (focusOn(null), select(null)),
  };
  plot.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    keys[event.key]();
    event.preventDefault();
  });
  plot.addEventListener("blur", () => focusOn(null));
  for (const kind of ["scroll", "resize"]) window.addEventListener(kind, () => focusOn(null));
}
