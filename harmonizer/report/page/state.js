// What is shown, kept in the address: a link restores it, and so do the browser's back and forward.
const state = {
  x: "accuracy",
  y: "tolerance",
  bars: "interval",
  log: false,
  names: true,
  query: "",
  /** @type {Set<string>} "family CNN", "source ddn" */ hidden: new Set(),
  /** @type {Model | null} */ selected: null,
  /** @type {Model | null} */ focused: null,
  /** @type {[number, number][] | null} zoomed to, on the scales shown */ view: null,
  /** @type {[string, boolean][]} columns of the table of models, and whether ascending */ sort: [],
};
/** @type {Record<string, string>} */
const DEFAULTS = { x: "accuracy", y: "tolerance", bars: "interval" };
const axes = Object.keys(data.axes).filter((axis) => models.some((model) => model.scores[axis]));
if (!axes.includes("accuracy")) [DEFAULTS.x, DEFAULTS.y] = ["tolerance", "alignment"];
if (!axes.includes(DEFAULTS.y)) DEFAULTS.y = axes[axes.length - 1];

/** @param {Model} model */
const addressOf = (model) => new URLSearchParams({ model: model.source + "/" + model.name }).toString();

/** The state as the part of an address after "#"; empty for the page as it opens. */
function address() {
  const parts = new URLSearchParams();
  for (const key of /** @type {("x" | "y" | "bars")[]} */ (["x", "y", "bars"]))
    if (state[key] !== DEFAULTS[key]) parts.set(key, state[key]);
  if (state.log) parts.set("log", "1");
  if (!state.names) parts.set("names", "0");
  if (state.query) parts.set("q", state.query);
  for (const key of [...state.hidden].sort()) parts.append("hide", key);
  if (state.view)
    parts.set(
      "zoom",
      state.view
        .flat()
        .map((value) => +value.toPrecision(6))
        .join(","),
    );
  if (state.sort.length) parts.set("sort", state.sort.map(([name, up]) => (up ? "+" : "-") + name).join(","));
  if (state.selected) parts.set("model", state.selected.source + "/" + state.selected.name);
  return parts.toString();
}

/** Write the state into the address. @param {boolean} [step] Whether "back" returns to the state before. */
function remember(step = true) {
  const now = "#" + address();
  if (now !== location.hash && !(now === "#" && !location.hash))
    history[step ? "pushState" : "replaceState"](null, "", now);
}

/** Read the state from the address; what it does not know is ignored. An anchor such as "#table" changes nothing. */
function restore() {
  if (location.hash && !location.hash.includes("=")) return;
  const parts = new URLSearchParams(location.hash.slice(1));
  /** @param {string} key @param {string[]} choices */
  const one = (key, choices) => (choices.includes(parts.get(key) || "") ? parts.get(key) || "" : DEFAULTS[key]);
  state.x = one("x", axes);
  state.y = one("y", axes);
  state.bars = parts.get("bars") === "" ? "" : one("bars", ["interval", "se"]);
  state.log = parts.get("log") === "1";
  state.names = parts.get("names") !== "0";
  state.query = parts.get("q") || "";
  state.hidden = new Set(parts.getAll("hide"));
  const zoom = (parts.get("zoom") || "").split(",").map(Number);
  const zoomed = zoom.length === 4 && zoom.every(Number.isFinite) && zoom[0] < zoom[1] && zoom[2] < zoom[3];
  state.view = zoomed
    ? [
        [zoom[0], zoom[1]],
        [zoom[2], zoom[3]],
      ]
    : null;
  const sort = (parts.get("sort") || "").split(",").filter((name) => /^[+-]./.test(name));
  state.sort = sort.map((name) => [name.slice(1), name[0] === "+"]);
  const wanted = parts.get("model");
  state.selected = models.find((model) => model.source + "/" + model.name === wanted) || null;
}

/** @param {Model} model */
const isShown = (model) => !state.hidden.has("family " + model.family) && !state.hidden.has("source " + model.source);
/** @param {Model} model */
const matches = (model) =>
  [model.name, model.architecture, model.family].join(" ").toLowerCase().includes(state.query.trim().toLowerCase());
/** Whether the axes can show a model. @param {Model} model */
const hasBoth = (model) => plottable(state.x, valueOf(model, state.x)) && plottable(state.y, valueOf(model, state.y));
/** The models that the view is about. */
const viewed = () => models.filter((model) => isShown(model) && matches(model) && hasBoth(model));

/** @param {string} axis */
const onLog = (axis) => state.log && axis.startsWith("tolerance");
/** @param {string} axis @param {number} value */
const toScale = (axis, value) => (onLog(axis) ? Math.log10(value) : value);
/** @param {string} axis @param {unknown} value @returns {value is number} */
const plottable = (axis, value) => known(value) && (!onLog(axis) || value > 0);
