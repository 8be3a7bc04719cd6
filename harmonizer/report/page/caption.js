// Captions of the view: number of models, protocols and rank correlation.

/** @param {Model[]} counted @returns {Rho | undefined} the report's own statistics of exactly these models */
function statisticsOf(counted) {
  const chosen = new Set(counted);
  /** @param {Model} model @param {Rho} rho */
  const belongs = (model, { source, group }) => model.source === source && (group === "all" || group === model.family);
  return data.correlations.find((item) => {
    if (![state.x, state.y].includes(item.x) || ![state.x, state.y].includes(item.y) || item.x === item.y) return false;
    const members = models.filter((model) => model.counted && belongs(model, item) && hasBoth(model));
    return members.length === item.n && item.n === chosen.size && members.every((model) => chosen.has(model));
  });
}

/** The rank correlation over the models of one protocol that have every score of their source.
 * @param {Model[]} counted @param {string} name of the protocol; empty when there is no other */
function correlationOf(counted, name) {
  const where = name ? " (" + name + ")" : "";
  if (counted.length < data.fewest)
    return "no rank correlation of " + counted.length + where + ", it takes " + data.fewest;
  const [x, y] = [state.x, state.y].map((axis) => counted.map((model) => valueOf(model, axis)));
  const rho = spearman(x, y);
  if (!known(rho)) return "no rank correlation" + where + ": a score is the same for all";
  const found = statisticsOf(counted);
  const more = found && known(found.low) ? " " + interval(found.low, found.high, 3) : "";
  const p = found && known(found.p) ? ", p " + pValue(found.p) : "";
  return "Spearman ρ = " + show(rho, 3) + more + p + ", n = " + counted.length + where;
}

/** Whether an accuracy is not the table's. @param {Model} model */
const ownAccuracy = (model) => model.ownAccuracy && [state.x, state.y].includes("accuracy");

function correlationText() {
  const shown = viewed();
  const counted = shown.filter((model) => model.counted);
  const sources = [...new Set(counted.map((model) => model.source))];
  const texts = [shown.length + " of " + models.length + " models"];
  /** @param {string} name */
  const within = (name) => correlationOf(counted.filter((model) => model.source === name), name); // prettier-ignore
  if (state.x !== state.y) texts.push(...(sources.length < 2 ? [correlationOf(counted, "")] : sources.map(within)));
  const lacking = shown.length - counted.length;
  if (lacking) texts.push(lacking + " grey: score missing, not in the correlation");
  if (shown.some(ownAccuracy))
    texts.push("white dot: accuracy measured here or from another table, not from the given one");
  return texts.join("; ");
}

/** A self-contained caption: axes, protocols, error bars, correlation. */
function captionText() {
  const names = new Set(viewed().map((model) => model.source));
  const protocols = data.sources.filter((source) => names.has(source.name));
  const bars = { interval: "95 % intervals over images", se: "standard errors over images" }[state.bars];
  return [
    data.axes[state.y].title + " against " + data.axes[state.x].title + ": " + correlationText() + ".",
    protocols.map((source) => source.name + ": " + source.protocol + ".").join(" "),
    bars ? "Error bars: " + bars + ", where known." : "",
    state.query ? "Models that match “" + state.query + "”." : "",
    state.hidden.size ? "Without " + [...state.hidden].map((key) => key.replace(" ", " ")).join(", ") + "." : "",
  ]
    .filter(Boolean)
    .join(" ");
}
