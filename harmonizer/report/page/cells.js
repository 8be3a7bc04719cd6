// Attacked images, drawn from the image, the perturbation and the maps; human and attack maps have the same colours.

/** The content of a cell. @typedef {"image" | "human" | "attacked" | "map"} Layer */
const SHARED = 6; // multiple of a map's mean at which the shared colour scale ends
const hexadecimal = data.palette.match(/.{6}/g) || [];
const palette = hexadecimal.map((color) => [0, 2, 4].map((i) => parseInt(color.slice(i, i + 2), 16)));

/** @type {Map<number, Promise<ImageData>>} */
const decoded = new Map();
/** The pixels of an image. @param {number} number @returns {Promise<ImageData>} */
function pixels(number) {
  const load = async () => {
    const image = new Image();
    image.src = data.pictures[number][0];
    await image.decode();
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { width, height }));
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, width, height);
  };
  if (!decoded.has(number)) decoded.set(number, load());
  return /** @type {Promise<ImageData>} */ (decoded.get(number));
}

/** A map's values in [0,1]: on the scale shared by all maps, or from its minimum to its maximum.
 * @param {ImageData} map @param {boolean} shared */
function heat(map, shared) {
  const values = Array.from({ length: map.width * map.height }, (_, i) => map.data[4 * i]);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length || 1;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return values.map((value) => (shared ? Math.min(1, value / mean / SHARED) : (value - low) / (high - low || 1)));
}

/** @param {HTMLCanvasElement} canvas @param {Example} example @param {Layer} layer @param {number} factor of the
 * perturbation @param {boolean} shared */
async function paint(canvas, example, layer, factor, shared) {
  const asked = [layer, factor, shared].join(" ");
  canvas.dataset.asked = asked;
  const image = await pixels(example.image);
  const result = new ImageData(image.width, image.height);
  if (layer === "image" || layer === "attacked") {
    const change = (await pixels(example.change)).data;
    const strength = layer === "image" ? 0 : (factor * example.amount) / 127;
    for (let i = 0; i < image.data.length; i++)
      result.data[i] = i % 4 === 3 ? 255 : image.data[i] + strength * (change[i] - 128) * 255;
  } else {
    const values = heat(await pixels(example[layer]), shared);
    values.forEach((value, i) => result.data.set([...palette[Math.round(value * 255)], 255], 4 * i));
  }
  if (canvas.dataset.asked !== asked) return; // a newer request has started
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d")?.putImageData(result, 0, 0);
  canvas.dataset.painted = asked;
}

/** @param {Example} example @param {Layer} layer @param {string} told @param {number} [factor] @param {boolean} [shared] */
function cell(example, layer, told, factor = data.magnification, shared = true) {
  const small = data.pictures[example.image][1] ? "small" : "";
  const boxed = layer === "image" ? example.category : "";
  const attributes = { class: small + " " + boxed, role: "img", "aria-label": told + ", " + example.key };
  const canvas = /** @type {HTMLCanvasElement} */ (html("canvas", attributes));
  paint(canvas, example, layer, factor, shared);
  return canvas;
}

/** A model's attacked images, in its panel. @param {Model} model */
function examplesOf(model) {
  const times = data.magnification === 1 ? "attacked" : "attacked, × " + data.magnification;
  /** @type {[Layer, string][]} */
  const layers = [["image", "image"], ["human", "human map"], ["attacked", times], ["map", "attack map"]]; // prettier-ignore
  return model.examples.flatMap((example) => {
    const figure = (/** @type {[Layer, string]} */ [layer, told]) =>
      html("figure", {}, cell(example, layer, told), html("figcaption", {}, told));
    const head = html("p", { class: "quiet" }, example.key + ": " + outcome(example));
    return [head, html("div", { class: "pictures" }, layers.map(figure))];
  });
}
/** @param {Example} example */
function outcome({ label, predicted, radius, alignment }) {
  const taken = label && predicted ? label + " → " + predicted : "";
  return [taken, "radius " + show(radius, 2), known(alignment) && "ρ " + show(alignment, 2)].filter(Boolean).join(", ");
}

/** The settings of the grid as drawn, so that it is redrawn only after a change. */
let drawn = "";
/** The grid of attacks: a row of images, a row of human maps, then a row per model. */
function fillGrid() {
  const asked = [state.layer, state.magnification, state.shared].join();
  if (!data.grid || asked === drawn) return;
  drawn = asked;
  const times = timesOf(state.magnification);
  const now = /** @type {Layer} */ (state.layer);
  /** @param {Child | Child[]} name @param {Example[]} examples @param {Layer} layer @param {boolean} attack */
  const row = (name, examples, layer, attack) => {
    const cells = examples.map((example) => [
      cell(example, layer, layer + (attack ? " of the attack" : ""), times, state.shared === "1"),
      attack && html("span", {}, outcome(example)),
    ]);
    const places = cells.map((content) => html("td", {}, content));
    return html("tr", {}, html("th", { scope: "row" }, name), places);
  };
  const first = data.grid[0].examples;
  const attacks = data.grid.map(({ model, examples }) =>
    row([icon(models[model].family), " ", ...breakable(models[model].name)], examples, now, true),
  );
  const people = row("Human map", first, "human", false);
  byId("cells").replaceChildren(html("tbody", {}, row("Image", first, "image", false), people, attacks));
  byId("magnified").textContent = "× " + (times < 10 ? times : Math.round(times));
  control("magnification").value = state.magnification;
  control("magnification").disabled = now !== "attacked";
}
