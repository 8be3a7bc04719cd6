// Export the view: a link, images, numbers.

/** Copy text; some browsers have no clipboard for local pages, where it is selected and copied by command.
 * @param {string} text @param {HTMLElement} button that confirms it */
async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = /** @type {HTMLTextAreaElement} */ (html("textarea", { class: "hidden" }));
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  byId("announce").textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
}

/** @param {Blob} blob @param {string} name */
function download(blob, name) {
  const link = /** @type {HTMLAnchorElement} */ (html("a", { href: URL.createObjectURL(blob), download: name }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const STROKE = ["stroke", "stroke-width", "stroke-dasharray", "paint-order"];
const PAINT = ["fill", "opacity", "font-size", "font-family", "font-weight", ...STROKE];
/** The plot as an SVG file, with its size, colours and text, and its caption as description. */
function plotFile() {
  const box = frame();
  const copy = /** @type {SVGElement} */ (plot.cloneNode(true));
  const [ours, theirs] = [all("*", plot), all("*", copy)];
  ours.forEach((element, i) => {
    const style = getComputedStyle(element);
    const painted = /^(path|use|line|circle|rect|text)$/.test(element.tagName) ? PAINT : [];
    for (const name of painted) theirs[i].setAttribute(name, style.getPropertyValue(name));
    theirs[i].removeAttribute("class");
  });
  copy.querySelector("#over")?.remove();
  for (const name of ["id", "tabindex", "role", "aria-label", "class"]) copy.removeAttribute(name);
  make(copy, { xmlns: SVG, width: box.width, height: box.height }, []);
  const shapes = all("#shapes > *").map((shape) => /** @type {Element} */ (shape.cloneNode(true)));
  const page = getComputedStyle(document.body).backgroundColor;
  const background = svg("rect", { width: "100%", height: "100%", fill: page });
  copy.prepend(svg("desc", {}, captionText()), svg("defs", {}, shapes), background);
  return new XMLSerializer().serializeToString(copy);
}
/** Draw the plot on a canvas at three times its size. @returns {Promise<Blob>} */
async function plotImage() {
  const [width, height] = [3 * frame().width, 3 * frame().height];
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(plotFile());
  await image.decode();
  const canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { width, height }));
  canvas.getContext("2d")?.drawImage(image, 0, 0, width, height);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no image"))), "image/png"),
  );
}
/** @param {Model[]} rows as comma-separated values, with every score and its interval */
function csv(rows) {
  /** A name that a spreadsheet would run as a formula is prefixed with "'". @param {string} text */
  const cell = (text) => '"' + (/^[=+\-@\t\r]/.test(text) ? "'" : "") + text.replaceAll('"', '""') + '"';
  const ends = ["", "_se", "_low", "_high", "_n"];
  const head = ["model", "family", "protocol", "counted", ...axes.flatMap((axis) => ends.map((end) => axis + end))];
  const lines = rows.map((m) => [
    ...[m.name, m.family, m.source].map(cell),
    +!!m.counted,
    ...axes.flatMap((axis) => ends.map((_, i) => (m.scores[axis] || [])[i] ?? "")),
  ]);
  return [head, ...lines].map((line) => line.join(",")).join("\n") + "\n";
}
/** @param {Model[]} rows @param {string} name */
const saveTable = (rows, name) => download(new Blob([csv(rows)], { type: "text/csv" }), name);

function watchSaving() {
  const name = () => state.y + "-against-" + state.x;
  /** @type {Record<string, (button: HTMLElement) => void>} */
  const actions = {
    "copy-link": (button) => copyText(location.href.split("#")[0] + "#" + address(), button),
    "copy-caption": (button) => copyText(captionText(), button),
    "copy-citation": (button) => copyText(byId("citation").textContent || "", button),
    "save-svg": () => download(new Blob([plotFile()], { type: "image/svg+xml" }), name() + ".svg"),
    "save-png": async () => download(await plotImage(), name() + ".png"),
    "save-csv": () => saveTable(viewed(), name() + ".csv"),
    "save-table": () => saveTable(listed(), "models.csv"),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", () => action(byId(id)));
}
