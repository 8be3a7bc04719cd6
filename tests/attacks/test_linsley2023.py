import pytest
import torch

from harmonizer.attacks import Status, minimal_radius
from harmonizer.functional import attack_map, spearman


@pytest.mark.parametrize("batch_size", [None, 5, 1])
def test_equals_the_published_protocol_in_float64(golden, golden_net, batch_size):
    images = golden["images"].double()
    result = minimal_radius(golden_net.double(), images, golden["labels"], attack="linsley2023", batch_size=batch_size)
    assert torch.equal(result.status, golden["pt64.status"])
    for name in ("eps", "l2", "linf"):
        expected = golden[f"pt64.{name}"]
        torch.testing.assert_close(getattr(result, name), expected, rtol=1e-9, atol=0, equal_nan=True)
    found = result.status == Status.FOUND
    torch.testing.assert_close(result.adversarial[found], golden["pt64.adv_image"][found], rtol=1e-9, atol=1e-12)
    assert torch.equal(result.prediction[found], golden["pt64.adv_pred"][found])
    score = spearman(attack_map(result.adversarial, images), golden["human_maps"].double())
    torch.testing.assert_close(score[found], golden["pt64.spearman"][found], rtol=1e-9, atol=1e-12)


def test_passes_equal_the_protocols_minimum_and_hook_counts(golden, golden_net, seen):
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack="linsley2023", batch_size=4)
    passes = {Status.WRONG: (1, 1), Status.CENSORED: (4, 3), Status.FOUND: (28, 19)}
    for status, (forwards, backwards) in passes.items():
        rows = result.status == status
        assert rows.any()
        assert (result.forwards[rows] == forwards).all()
        assert (result.backwards[rows] == backwards).all()
    assert seen == {"forward": result.forwards.sum(), "backward": result.backwards.sum()}


def test_waiting_images_replace_finished_ones_in_the_batch(golden, golden_net):
    sizes = []
    golden_net.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack="linsley2023", batch_size=4)
    assert max(sizes) == 4
    assert sum(sizes) == result.forwards.sum()
    assert len(sizes) <= 28 * -(-len(golden["images"]) // 4)
