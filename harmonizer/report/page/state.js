// The state of the view, kept in the address: links and the browser's history restore it.

/** A control's value, "1" or "0" of a checkbox. @typedef {"x" | "y" | "bars" | "log" | "names" | "layer" | "shared"} Choice */
const axes = Object.keys(data.axes).filter((axis) => models.some((model) => model.scores[axis]));
const first = axes.includes("accuracy") ? ["accuracy", "tolerance"] : ["tolerance", "alignment"];
const DOUBLINGS = String(Math.log2(data.magnification)); // doublings of the perturbation in the grid
/** Possible values by the name of the control, which is that in the address; the first is the initial one.
 * @type {Record<Choice, string[]>} */
const CHOICES = {
  x: [first[0], ...axes],
  y: [axes.includes(first[1]) ? first[1] : axes[axes.length - 1], ...axes],
  bars: ["interval", "se", ""],
  log: ["0", "1"],
  names: ["1", "0"],
  layer: ["map", "attacked", "image"],
  shared: ["1", "0"],
};
const choices = /** @type {Choice[]} */ (Object.keys(CHOICES));
const state = {
  .../** @type {Record<Choice, string>} */ (Object.fromEntries(choices.map((name) => [name, CHOICES[name][0]]))),
  query: "",
  magnification: DOUBLINGS,
  /** @type {Set<string>} "family CNN", "source ddn" */ hidden: new Set(),
  /** @type {Model | null} */ selected: null,
  /** @type {Model | null} */ focused: null,
  /** @type {[number, number][] | null} zoomed to, on the scales shown */ view: null,
  /** @type {Columns} of the table of models */ sort: [],
};

/** @param {Model} model */
const nameOf = (model) => model.source + "/" + model.name;
/** @param {Model} model */
const addressOf = (model) => new URLSearchParams({ model: nameOf(model) }).toString();

/** The state as the part of an address after "#"; empty for the initial state. */
function address() {
  const parts = new URLSearchParams();
  for (const name of choices) if (state[name] !== CHOICES[name][0]) parts.set(name, state[name]);
  if (state.magnification !== DOUBLINGS) parts.set("magnification", String(timesOf(state.magnification)));
  if (state.query) parts.set("q", state.query);
  for (const key of [...state.hidden].sort()) parts.append("hide", key);
  const zoom = (state.view || []).flat().map((value) => +value.toPrecision(6));
  if (state.view) parts.set("zoom", zoom.join(","));
  if (state.sort.length) parts.set("sort", state.sort.map(([name, up]) => (up ? "+" : "-") + name).join(","));
  if (state.selected) parts.set("model", nameOf(state.selected));
  return parts.toString();
}
/** @param {string} doublings */
const timesOf = (doublings) => +(2 ** +doublings).toPrecision(3);

/** Write the state into the address. @param {boolean} [step] Whether "back" returns to the state before. */
function remember(step = true) {
  const now = "#" + address();
  if (now !== (location.hash || "#")) history[step ? "pushState" : "replaceState"](null, "", now);
}

/** Read the state from the address; unknown parts are ignored, and an anchor such as "#table" changes nothing. */
function restore() {
  if (location.hash && !location.hash.includes("=")) return;
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const name of choices) {
    const given = parts.get(name);
    state[name] = given !== null && CHOICES[name].includes(given) ? given : CHOICES[name][0];
  }
  const times = Math.log2(Number(parts.get("magnification")));
  state.magnification = times >= 0 && times <= 7 ? String(times) : DOUBLINGS;
  state.query = parts.get("q") || "";
  state.hidden = new Set(parts.getAll("hide"));
  const zoom = (parts.get("zoom") || "").split(",").map(Number);
  const zoomed = zoom.length === 4 && zoom.every(Number.isFinite) && zoom[0] < zoom[1] && zoom[2] < zoom[3];
  state.view = zoomed ? [[zoom[0], zoom[1]], [zoom[2], zoom[3]]] : null; // prettier-ignore
  const sort = (parts.get("sort") || "").split(",").filter((name) => /^[+-]./.test(name));
  state.sort = sort.map((name) => [name.slice(1), name[0] === "+"]);
  const wanted = parts.get("model");
  state.selected = models.find((model) => nameOf(model) === wanted) || null;
}

/** @param {Model} model */
const isShown = (model) => !state.hidden.has("family " + model.family) && !state.hidden.has("source " + model.source);
/** @param {Model} model */
const matches = (model) =>
  [model.name, model.architecture, model.family].join(" ").toLowerCase().includes(state.query.trim().toLowerCase());
/** Whether a model has a place on both axes. @param {Model} model */
const hasBoth = (model) => plottable(state.x, valueOf(model, state.x)) && plottable(state.y, valueOf(model, state.y));
/** The models in the view. */
const viewed = () => models.filter((model) => isShown(model) && matches(model) && hasBoth(model));

/** @param {string} axis */
const onLog = (axis) => state.log === "1" && axis.startsWith("tolerance");
/** @param {string} axis @param {number} value */
const toScale = (axis, value) => (onLog(axis) ? Math.log10(value) : value);
/** @param {string} axis @param {unknown} value @returns {value is number} */
const plottable = (axis, value) => known(value) && (!onLog(axis) || value > 0);
