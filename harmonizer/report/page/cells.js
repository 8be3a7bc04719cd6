// Attacked images, drawn from the image, the human map, the perturbation and its map.

/** What a cell shows. @typedef {"image" | "people" | "human" | "attacked" | "map"} Layer */
const SHARED = 6; // on the shared scale, colours run from 0 to this many times a map's mean
const palette = (data.palette.match(/.{6}/g) || []).map((hex) =>
  [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)),
);

/** @type {Map<number, Promise<ImageData>>} */
const decoded = new Map();
/** The pixels of an image. @param {number} number @returns {Promise<ImageData>} */
function pixels(number) {
  const load = async () => {
    const image = new Image();
    image.src = data.pictures[number][0];
    await image.decode();
    const canvas = /** @type {HTMLCanvasElement} */ (
      html("canvas", { width: image.naturalWidth, height: image.naturalHeight })
    );
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  if (!decoded.has(number)) decoded.set(number, load());
  return /** @type {Promise<ImageData>} */ (decoded.get(number));
}

/** A map's values on 0..1: on the scale shared by all maps, or from its own least value to its largest one.
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
    const map = await pixels(layer === "map" ? example.map : example.human);
    heat(map, shared).forEach((value, i) => {
      const [r, g, b] = [0, 1, 2].map((c) => image.data[4 * i + c]);
      const weight = value ** 0.7; // of the image's own colour; elsewhere it is grey and dark
      const dark = (1 - weight) * 0.35 * ((r + g + b) / 3);
      const color = layer === "people" ? [r, g, b].map((c) => weight * c + dark) : palette[Math.round(value * 255)];
      result.data.set([...color, 255], 4 * i);
    });
  }
  if (canvas.dataset.asked !== asked) return; // something else has been asked for since
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d")?.putImageData(result, 0, 0);
  canvas.dataset.painted = asked;
}

/** @param {Example} example @param {Layer} layer @param {string} label @param {number} [factor] @param {boolean} [shared] */
function cell(example, layer, label, factor = data.magnification, shared = false) {
  const small = data.pictures[example.image][1];
  const kind = layer !== "map" && layer !== "attacked" && example.category ? " " + example.category : "";
  const canvas = html("canvas", {
    class: (small ? "small" : "") + kind,
    role: "img",
    "aria-label": label + ", " + example.key,
  });
  paint(/** @type {HTMLCanvasElement} */ (canvas), example, layer, factor, shared);
  return canvas;
}

/** A model's attacked images, in its panel. @param {Model} model */
function examplesOf(model) {
  const times = data.magnification === 1 ? "attacked" : "attacked, × " + data.magnification;
  const layers = /** @type {[Layer, string][]} */ ([["image", "image"], ["people", "where people look"], ["attacked", times], ["map", "attack map"]]); // prettier-ignore
  return model.examples.flatMap((example) => [
    html("p", { class: "quiet" }, example.key + ": " + outcome(example)),
    html(
      "div",
      { class: "pictures" },
      layers.map(([layer, text]) => html("figure", {}, cell(example, layer, text), html("figcaption", {}, text))),
    ),
  ]);
}
/** @param {Example} example */
const outcome = (example) =>
  [
    example.label && example.predicted ? example.label + " → " + example.predicted : "",
    "radius " + show(example.radius, 2),
  ]
    .concat(known(example.alignment) ? "ρ " + show(example.alignment, 2) : [])
    .filter(Boolean)
    .join(", ");

/** The figure of attacks: images and people's maps in two rows, then a row for each model. */
function drawGrid() {
  const grid = data.grid;
  if (!grid) return;
  const [layer, factor, shared] = [control("layer"), control("magnification"), control("shared")];
  factor.value = String(Math.log2(data.magnification));
  const first = grid[0].examples;
  function fill() {
    const times = 2 ** +factor.value;
    const now = /** @type {Layer} */ (layer.value);
    byId("magnified").textContent = "× " + (times < 10 ? times.toFixed(1).replace(".0", "") : Math.round(times));
    const people = now === "map" ? "human" : "people"; // the same rendering as the attacks
    /** @param {Child | Child[]} name @param {Example[]} examples @param {Layer} shown @param {boolean} told */
    const row = (name, examples, shown, told) =>
      html(
        "tr",
        {},
        html("th", { scope: "row" }, name),
        examples.map((example) => {
          const label = shown + (told ? " of the attack" : "");
          return html(
            "td",
            {},
            cell(example, shown, label, times, shared.checked),
            told && html("span", {}, outcome(example)),
          );
        }),
      );
    const attacks = /** @type {GridRow[]} */ (grid).map(({ model, examples }) =>
      row([icon(models[model].family), " ", models[model].name], examples, now, true),
    );
    byId("cells").replaceChildren(
      html("tbody", {}, row("Image", first, "image", false), row("People", first, people, false), attacks),
    );
    byId("scale").hidden = now !== "map";
    factor.disabled = now !== "attacked";
  }
  for (const input of [layer, factor, shared]) input.addEventListener("input", fill);
  fill();
}
