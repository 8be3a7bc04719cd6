"""Results folders of made-up models, the published tables if they are available, and a browser."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from harmonizer.report.__main__ import main
from harmonizer.report.data import load_models
from harmonizer.results import Row, find_results, protocol_hash, write_results
from harmonizer.statistics import Status, alignment_summary, proportion, survival, tolerance_summary

EPS_MAX = 10.0
PUBLISHED = 293  # with the seven measured ones: 300 models
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


def make_results(
    folder,
    name,
    *,
    label=None,
    family="other",
    tolerance=2.0,
    alignment=0.2,
    accuracy=0.8,
    training=None,
    masked=False,
    attack="ddn",
    images=60,
    size=24,
    examples=4,
):
    """Write the results of a model whose per-image radii are log-normal around ``tolerance``."""
    rng = np.random.default_rng([ord(letter) for letter in f"{name}{label}{attack}"])
    difficulty = np.random.default_rng(0).normal(size=images)  # the same in all models, so that their images are paired
    radius = tolerance * np.exp(0.4 * difficulty + 0.3 * rng.normal(size=images))
    status = np.where(
        rng.random(images) > accuracy, Status.WRONG, np.where(radius > EPS_MAX, Status.CENSORED, Status.FOUND)
    )
    found = status == Status.FOUND
    radius = np.where(found, radius, np.nan)
    scores = [np.clip(alignment + 0.15 * rng.normal(size=images), -1, 1) for _ in range(2)]
    scores[0] = np.where(found, scores[0], np.nan)
    masks = {f"alignment_{mask}": scores[0] + 0.05 * i for i, mask in enumerate(("mean_of_abs", "max_of_abs", "l2"), 1)}
    rows = [
        Row(
            **{"key": f"image-{i:03d}", "label": i % 10, "prediction": 0, "status": status[i], "eps": radius[i]}
            | {"l2": radius[i], "rms": radius[i] / np.sqrt(3) / size, "linf": radius[i] / 10}
            | {"alignment": scores[0][i], "feature_alignment": scores[1][i], "forwards": 140, "backwards": 130}
            | {name: values[i] for name, values in masks.items()}
        )
        for i in range(images)
    ]
    settings = {"attack": attack, "settings": {"steps": 60}, "eps_max": EPS_MAX, "images": images}
    summary = {
        "version": 1,
        "model": {
            "name": name,
            "label": label or name,
            "family": family,
            "pretrained": training is None,
            "checkpoint": None,
            "weights_sha256": "ab" * 32,
            "parameters": 1_234_567,
            "input_size": size,
        },
        "training": training,
        "data": {"name": "demo", "manifest_sha256": "cd" * 32, "samples": images},
        "protocol": settings | {"hash": protocol_hash(settings)},
        "accuracy": proportion(int((status != Status.WRONG).sum()), images),
        "tolerance": tolerance_summary(status, radius, eps_max=EPS_MAX, resamples=200),
        "adversarial_alignment": alignment_summary(scores[0][found], resamples=200),
        "feature_alignment": alignment_summary(scores[1], resamples=200),
        "survival": survival(status, radius, np.linspace(0, EPS_MAX, 41)),
        "health": {"masked": masked, "reasons": ["42 % of gradients are zero"] if masked else []},
        "cost": {"forwards": 140.0 * images, "backwards": 130.0 * images, "seconds": 12.5},
        "software": {"harmonizer": "0.1.0", "torch": "2.14.0", "timm": "1.0.31"},
        "device": "cpu",
        "created": "2026-01-01T00:00:00Z",
    }
    kept = make_examples(rng, radius, examples, size) if found.any() else None
    write_results(folder, summary, rows, kept)
    return folder


def make_examples(rng, radius, count, size):
    """Make images of a bright disc, whose human map is the disc, and perturbations of the given radii."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    keys = [f"image-{i:03d}" for i in range(len(radius)) if np.isfinite(radius[i])][:count]
    image, human, adversarial, saliency = [], [], [], []
    for key in keys:
        turn = np.random.default_rng(int(key[-3:])).random(3)
        disc = np.exp(-((x - 0.3 * turn[0] + 0.15) ** 2 + (y - 0.3 * turn[1] + 0.15) ** 2) / 0.03)
        image.append(np.clip(np.stack([0.2 + 0.7 * disc * c for c in (1, 0.4 + turn[2] / 2, turn[2])]), 0, 1))
        change = rng.normal(size=(3, size, size)) * (0.3 + disc)
        change *= radius[int(key[-3:])] / np.linalg.norm(change)
        adversarial.append(np.clip(image[-1] + change, 0, 1))
        human.append(disc)
        saliency.append(np.abs(change).max(0))
    arrays = {"image": image, "adversarial": adversarial, "human": human, "saliency": saliency}
    return {"keys": np.array(keys)} | {name: np.array(array, np.float32) for name, array in arrays.items()}


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Make a folder of two control/harmonized pairs and three other models: one is masked, one has HTML in its name."""
    folder = tmp_path_factory.mktemp("zoo")
    for name, control, harmonized in (("vit_base_patch16_224", 1.5, 3.5), ("convnext_tiny", 1.2, 3.0)):
        for harmonize, tolerance in ((False, control), (True, harmonized)):
            label = f"{name} {'harmonized' if harmonize else 'control'}"
            training = {"harmonize": harmonize, "seed": 0, "recipe": "fel2022"}
            alignment = 0.45 if harmonize else 0.12
            at = folder / f"{name}-{harmonize}"
            make_results(at, name, label=label, tolerance=tolerance, alignment=alignment, training=training)
    make_results(folder / "resnet18", "resnet18.a1_in1k", tolerance=1.0, accuracy=0.7)
    make_results(folder / "masked", "maxvit_tiny_tf_224.in1k", tolerance=4.5, alignment=0.02, masked=True)
    make_results(folder / "script", "<script>alert(1)</script>", tolerance=0.8, accuracy=0.6)
    return folder


@pytest.fixture(scope="module")
def models(zoo):
    return load_models(find_results([zoo]))[0]


@pytest.fixture(scope="session")
def published():
    """Return the folder of the published tables, which are not part of the repository."""
    folders = [folder / "shared" / "data" for folder in Path(__file__).parents]
    found = next((folder for folder in folders if (folder / "feng2025_l2fmn.csv").is_file()), None)
    if found is None:
        pytest.skip("the published tables are not in this checkout")
    return found


@pytest.fixture(scope="session")
def make():
    """Return the function that writes a made-up model's results."""
    return make_results


def missing(what):
    """Fail the test in CI, and skip it on other machines, because something that it needs is missing."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"missing: {what}")


@pytest.fixture(scope="session")
def npm(tmp_path_factory):
    """Return a function that installs npm packages into a temporary folder and returns its node_modules."""
    folder = tmp_path_factory.mktemp("npm")

    def install(*packages):
        if shutil.which("npm") is None:
            missing(f"npm, to install {', '.join(packages)}")
        command = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            missing(f"{', '.join(packages)} from npm: {done.stderr.strip()[-300:]}")
        return folder / "node_modules"

    return install


@pytest.fixture(scope="session")
def axe(npm):
    """Return the script that checks a page for violations of accessibility rules."""
    return (npm("axe-core@4.14.1") / "axe-core" / "axe.min.js").read_text()


class Tab:
    """A page in headless Chromium, and a reader's actions on it."""

    def __init__(self, driver):
        self.driver = driver
        self.cdp = driver.execute_cdp_cmd
        self.asked = []

    def run(self, script, *arguments):
        """Return the value of an expression; ``arguments[0]`` is the first argument."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def size(self, width, height, scale=1):
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, path, address=""):
        """Open a page from disk."""
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + address)
        assert self.run("document.documentElement.dataset.ready") == "yes"

    def mouse(self, kind, x, y, **more):
        self.cdp("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})
        self.settle()

    def settle(self):
        """Wait for two frames: what follows a movement or a new size has then been drawn."""
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def click(self, x, y, count=1):
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=count)

    def tap(self, x, y):
        for kind, places in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            self.cdp("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def press(self, key, code, modifiers=0):
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.cdp("Input.dispatchKeyEvent", event | text)

    def choose(self, control, value, event="change"):
        script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        self.driver.execute_script(script + "e.dispatchEvent(new Event(arguments[2]))", control, value, event)

    def text(self, element):
        return self.run("document.getElementById(arguments[0]).innerText", element)

    def place(self, name):
        """Return the position of a model's point on the screen."""
        self.driver.execute_script("plot.scrollIntoView({block: 'center', behavior: 'instant'})")
        self.settle()
        script = "(({x, y}, {left, top}) => [left + x, top + y])"
        point = "points.find((p) => p.model.name === arguments[0])"
        return self.run(f"{script}({point}, plot.getBoundingClientRect())", name)

    def pdf(self):
        options = {"printBackground": True, "preferCSSPageSize": True}
        return base64.b64decode(self.cdp("Page.printToPDF", options)["data"])

    def complaints(self):
        """Return the messages in the browser's console and the addresses requested since the last call."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
        return said, asked


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Start a browser with a temporary profile, and save its downloads in a temporary folder."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        missing("chromium and chromedriver")
    options, folder = webdriver.ChromeOptions(), tmp_path_factory.mktemp("chromium")
    options.binary_location = binary
    for switch in [*SWITCHES.split(), f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("perfLoggingPrefs", {"traceCategories": "loading,blink.user_timing"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    tab = Tab(browser)
    tab.downloads = folder / "downloads"
    tab.cdp("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tab.downloads)})
    yield tab
    browser.quit()


@pytest.fixture(scope="session")
def page(zoo, tmp_path_factory):
    """Write a report of seven measured and 293 published models; return its page."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    names = [f"{kind}_{i}" for i in range(98) for kind in ("resnet", "vit_base", "maxvit")][:PUBLISHED]
    lines = [
        f"{name},{1 + i / 100:.3f},{0.3 - i / 1000 + rng.normal() / 50:.4f},0.05,0.01,{60 + i / 12 + rng.normal():.2f}"
        for i, name in enumerate(names)
    ]
    head = "# name: Table 2030\n# attack: ddn\nmodel,pt,aa,pt_sem,aa_sem,top1\n"
    (folder / "table.csv").write_text(head + "\n".join(lines) + "\n")
    arguments = [str(zoo), "--external", str(folder / "table.csv"), "--out", str(folder / "out")]
    assert main(arguments) == 0
    return folder / "out" / "index.html"


@pytest.fixture
def tab(chromium, page):
    """Open the page at desktop size; fail the test after console messages or requests to other addresses."""
    chromium.size(1280, 900)
    chromium.complaints()
    chromium.open(page)
    yield chromium
    said, asked = chromium.complaints()
    assert said == []
    inside = ("data:", "blob:", "about:blank", page.as_uri())
    assert [address for address in asked if not address.startswith(inside)] == []
