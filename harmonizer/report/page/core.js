"use strict";
// Types and helpers. Text enters the page as a text node or an attribute value only, never as markup.

/** A number, "inf", or null where nothing is known. @typedef {number | "inf" | null} Value */
/** Value, standard error, lower and upper end of the 95 % interval, images. @typedef {Value[]} Score */
/** @typedef {{title: string, short: string, digits: number}} Axis */
/** @typedef {{name: string, protocol: string}} Source */
/** @typedef {{key: string, image: number, human: number, change: number, map: number, amount: number, radius: number,
 *    alignment: Value, label: string, predicted: string, category: string}} Example */
/** @typedef {{last: number, counts: number[], censored: number}} Histogram of radii from 0 to the last */
/** @typedef {{last: number, shares: number[]}} Survival at radii from 0 to the last */
/** @typedef {{index: number, name: string, architecture: string, family: string, source: string, measured?: boolean,
 *    hollow?: boolean, masked?: boolean, counted?: boolean, own?: boolean, named?: boolean, ownAccuracy?: string, control?: number,
 *    scores: Record<string, Score>, reasons?: string[], counts?: number[], median?: Score, histogram?: Histogram,
 *    survival?: Survival, parameters?: number, input?: number, training?: string,
 *    examples: Example[]}} Model */
/** @typedef {{x: string, y: string, source?: string, group: string, rho: Value, p: Value, n: number, low: Value, high: Value}} Rho */
/** @typedef {{a: number, b: number, keys: string[], values: Record<string, Value[][]>,
 *    changed: Record<string, number[]>}} Comparison */
/** @typedef {{model: number, examples: Example[]}} GridRow */
/** @typedef {{axes: Record<string, Axis>, families: string[], sources: Source[], models: Model[], correlations: Rho[],
 *    comparisons: Comparison[], fewest: number, grid: GridRow[] | null, magnification: number, palette: string, order: number[],
 *    pictures: [string, boolean][]}} Data */

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id */
const control = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
/** @param {string} selector @param {ParentNode} [within] @returns {HTMLElement[]} */
const all = (selector, within = document) => [...within.querySelectorAll(selector)].map((e) => /** @type {any} */ (e));

/** @type {Data} */
const data = JSON.parse(byId("data").textContent || "");
const models = data.models;
models.forEach((model, index) => Object.assign(model, { index, examples: model.examples || [] }));
all("#models tbody tr").forEach((row, i) => (row.dataset.model = String(data.order[i])));
const SVG = "http://www.w3.org/2000/svg";
const STATUSES = ["wrong", "censored", "found", "failed"];

/** @typedef {Element | string | number | false | null | undefined} Child */
/**
 * Give an element attributes, listeners ("onclick") and children.
 * @template {Element} E @param {E} node @param {Record<string, any>} attributes @param {(Child | Child[])[]} children
 * @returns {E}
 */
function make(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(key, value === true ? "" : value);
  }
  const given = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...given.map((child) => (child instanceof Element ? child : String(child))));
  return node;
}
/** @param {string} tag @param {Record<string, any>} attributes @param {...(Child | Child[])} children */
const html = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
/** @param {string} tag @param {Record<string, any>} attributes @param {...(Child | Child[])} children */
const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

/** @param {unknown} value @returns {value is number} */
const known = (value) => typeof value === "number" && Number.isFinite(value);
/** @param {Value | undefined} value @param {number} digits */
const show = (value, digits) => (value === "inf" ? "∞" : known(value) ? value.toFixed(digits).replace("-", "−") : "–");
/** @param {Score | undefined} score @param {number} digits */
const plusMinus = (score, digits) =>
  !score ? "–" : show(score[0], digits) + (known(score[1]) ? " ± " + score[1].toFixed(digits) : "");
/** @param {Value | undefined} low @param {Value | undefined} high @param {number} digits */
const interval = (low, high, digits) => (known(low) ? "[" + show(low, digits) + ", " + show(high, digits) + "]" : "–");
/** @param {Value} p */
const pValue = (p) => (!known(p) ? "–" : p < 0.001 ? "< 0.001" : "= " + p.toFixed(3));
/** @param {string} family */
const familyClass = (family) => "f" + data.families.indexOf(family);
/** @param {Model} model @param {string} axis @returns {number} NaN where the model has no such score */
const valueOf = (model, axis) => {
  const value = (model.scores[axis] || [])[0];
  return known(value) ? value : NaN;
};

/** @param {string} style @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
const line = (style, x1, y1, x2, y2) => svg("line", { class: style, x1, y1, x2, y2 });
/** @param {string} content @param {number} x @param {number} y @param {"start" | "middle" | "end"} [anchor]
 * @param {string} [style] */
const text = (content, x, y, anchor = "start", style) =>
  svg("text", { x, y, "text-anchor": anchor, class: style }, content);
/** A name that breaks into lines at its separators. @param {string} name @returns {Child[]} */
const breakable = (name) => name.split(/(?<=[-_ ])/).flatMap((part) => [part, html("wbr", {})]);
/** A box that scrolls sideways, which the keyboard reaches. @param {string} label @param {...Child} children */
const scrollBox = (label, ...children) =>
  html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, ...children);

/** A family's marker, drawn in the page's own definitions. @param {string} family @param {number} x @param {number} y
 * @param {number} size @param {string} style */
const marker = (family, x, y, size, style) =>
  svg("use", {
    href: "#m" + data.families.indexOf(family),
    transform: "translate(" + x.toFixed(1) + "," + y.toFixed(1) + ") scale(" + size.toFixed(2) + ")",
    class: style + " " + familyClass(family),
  });
/** @param {string} family */
const icon = (family) =>
  svg("svg", { class: "icon", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(family, 0, 0, 5.5, "point"));

/** Ticks at round numbers. @param {number} low @param {number} high @param {number} count @returns {[number, string][]} */
function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= raw * 0.999) || 10);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => {
    const value = (first + i) * step;
    return [value, show(Math.abs(value) < step / 1e6 ? 0 : value, digits)];
  });
}
/** Ticks of a logarithmic axis; low and high are logarithms. @param {number} low @param {number} high
 * @returns {[number, string][]} */
function logTicks(low, high) {
  const powers = Array.from({ length: Math.floor(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
  const digits = high - low < 1.3 ? [1, 1.5, 2, 3, 5, 7] : [1, 2, 5];
  const ticks = powers.flatMap((power) => digits.map((digit) => power + Math.log10(digit)));
  return ticks.filter((at) => at >= low && at <= high).map((at) => [at, String(+(10 ** at).toPrecision(2))]);
}
/** A vertical axis: rules, and texts left of them. @param {[number, string][]} ticks @param {(v: number) => number} sy
 * @param {number} left @param {number} right */
const upAxis = (ticks, sy, left, right) =>
  ticks.flatMap(([value, told]) => [
    line(value === 0 ? "zero" : "rule", left, sy(value), right, sy(value)),
    text(told, left - 6, sy(value) + 4, "end"),
  ]);
/** @param {number[]} domain @param {number[]} range @returns {(value: number) => number} */
const scale = (domain, range) => (value) =>
  range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);

/** Ranks from 0, ties at their average. @param {number[]} values @returns {number[]} */
function ranks(values) {
  const ordered = Float64Array.from(values).sort();
  return values.map((value) => (ordered.indexOf(value) + ordered.lastIndexOf(value)) / 2);
}
/** Spearman correlation. @param {number[]} a @param {number[]} b */
function spearman(a, b) {
  const [x, y] = [ranks(a), ranks(b)];
  const mean = (a.length - 1) / 2;
  let [xy, xx, yy] = [0, 0, 0];
  x.forEach((_, i) => {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) ** 2;
    yy += (y[i] - mean) ** 2;
  });
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : NaN;
}
