"""The size of a page."""

from harmonizer.report.data import load_models
from harmonizer.report.page.payload import MOST_PICTURED, payload
from harmonizer.results import find_results

LARGEST = 12e6  # bytes, of a page of 300 models with images


def test_the_images_of_300_models_fit_even_if_none_are_shared(make, tmp_path):
    make(tmp_path / "in" / "one", "resnet50", size=224, examples=4, images=30)
    models, sources = load_models(find_results([tmp_path / "in"]))
    content = payload(models, sources, [], [], titles={}, grid=([], []), categories={})
    assert len(content["models"][0]["examples"]) == 4
    each = sum(len(address) for address, _ in content["pictures"]) / 4
    assert each * MOST_PICTURED + 300_000 <= LARGEST, each
