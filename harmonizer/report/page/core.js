"use strict";
// Helpers. Text only ever enters the page as a text node or attribute value, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const models = data.models;
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const STATUSES = ["wrong", "censored", "found", "failed"];

function make(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}
const html = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

const known = (value) => typeof value === "number" && Number.isFinite(value);
const show = (value, digits) => (value === "inf" ? "∞" : known(value) ? value.toFixed(digits).replace("-", "−") : "–");
const plusMinus = (score, digits) => (!score ? "–" : show(score[0], digits) + (known(score[1]) ? " ± " + score[1].toFixed(digits) : ""));
const interval = (score, digits) => (score && known(score[2]) ? "[" + show(score[2], digits) + ", " + show(score[3], digits) + "]" : "–");
const pValue = (p) => (!known(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const familyClass = (family) => "f" + data.families.indexOf(family);

// Markers of about equal area around (0, 0), for a half width of 1.
const polygon = (n, turn, inner) => {
  const corners = [];
  for (let i = 0; i < n * (inner ? 2 : 1); i++) {
    const angle = turn + (i * 2 * Math.PI) / (n * (inner ? 2 : 1));
    const r = inner && i % 2 ? inner : 1;
    corners.push((r * Math.sin(angle)).toFixed(3) + "," + (-r * Math.cos(angle)).toFixed(3));
  }
  return "M" + corners.join("L") + "Z";
};
const MARKERS = [
  "M-1,0A1,1 0 1,1 1,0A1,1 0 1,1 -1,0Z",
  "M-.88,-.88H.88V.88H-.88Z",
  polygon(3, 0),
  polygon(4, 0),
  polygon(5, 0),
  polygon(5, 0, 0.42),
  "M-.95,-.5L-.5,-.95L0,-.45L.5,-.95L.95,-.5L.45,0L.95,.5L.5,.95L0,.45L-.5,.95L-.95,.5L-.45,0Z",
];
const MARKER_SCALE = [1, 1, 1.25, 1.15, 1.1, 1.55, 1.1];
function marker(family, x, y, size, attributes) {
  const index = data.families.indexOf(family);
  const scale = (size * MARKER_SCALE[index]).toFixed(2);
  return svg("path", {
    d: MARKERS[index],
    transform: "translate(" + x.toFixed(2) + "," + y.toFixed(2) + ") scale(" + scale + ")",
    "vector-effect": "non-scaling-stroke",
    ...attributes,
  });
}
const icon = (family) => svg("svg", { class: "icon " + familyClass(family), viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(family, 0, 0, 5.5, { class: "point" }));

// Axes.
function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return ticks.map((value) => [value, show(Math.abs(value) < step / 1e6 ? 0 : value, digits)]);
}
function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const m of high - low < 1.3 ? [1, 1.5, 2, 3, 5, 7] : [1, 2, 5]) {
      const at = power + Math.log10(m);
      if (at >= low && at <= high) ticks.push([at, String(+(10 ** at).toPrecision(2))]);
    }
  }
  return ticks;
}
const scale = (domain, range) => (value) => range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);
const unscale = (domain, range) => (at) => domain[0] + ((at - range[0]) / (range[1] - range[0])) * (domain[1] - domain[0]);

// Rank correlation with average ranks of ties.
function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Array(values.length);
  for (let i = 0; i < order.length; ) {
    let end = i;
    while (end + 1 < order.length && values[order[end + 1]] === values[order[i]]) end++;
    for (let k = i; k <= end; k++) result[order[k]] = (i + end) / 2;
    i = end + 1;
  }
  return result;
}
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
