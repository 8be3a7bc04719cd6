import sys

import pytest
import torch

from harmonizer.attacks import Status, minimal_radius

# The libraries' code raises these warnings; ours must not.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize(
    ("attack", "module", "settings"),
    [
        ("feng2025", "foolbox", {"steps": 30}),
        ("foolbox:L2DeepFoolAttack", "foolbox", {"steps": 30}),
        ("advlib:ddn", "adv_lib", {"steps": 30, "levels": None}),
    ],
)
def test_external_attacks_get_our_statuses_and_final_check(golden, golden_net, attack, module, settings):
    pytest.importorskip(module)
    images, labels = golden["images"], golden["labels"]
    golden_net.train()
    with torch.inference_mode():
        result = minimal_radius(golden_net, images, labels, attack=attack, batch_size=5, **settings)
    ours = minimal_radius(golden_net, images, labels, attack="ddn")
    found = result.status == Status.FOUND
    assert torch.equal(result.status == Status.WRONG, ours.status == Status.WRONG)
    assert found.sum() >= 8
    assert (golden_net(result.adversarial).argmax(1) != labels)[found].all()
    assert (result.l2[found] > 0.98 * ours.l2[found]).all()
    assert 20 <= result.forwards[found].max() <= 100
    assert result.backwards[found].min() >= 3
    assert golden_net.training
    assert all(p.grad is None and p.requires_grad for p in golden_net.parameters())


def test_the_error_of_a_missing_library_says_how_to_install(golden, golden_net, monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(ImportError, match=r"needs foolbox.*pip install foolbox"):
        minimal_radius(golden_net, golden["images"], golden["labels"], attack="feng2025")


def test_errors_name_unknown_attacks_and_settings(golden, golden_net):
    pytest.importorskip("foolbox")
    with pytest.raises(ValueError, match=r"among .*L2FMNAttack.*got 'L2FNMAttack'; did you mean L2FMNAttack"):
        minimal_radius(golden_net, golden["images"], golden["labels"], attack="foolbox:L2FNMAttack")
    with pytest.raises(ValueError, match=r"settings of L2FMNAttack among .*'steps'.*got 'step'"):
        minimal_radius(golden_net, golden["images"], golden["labels"], attack="foolbox:L2FMNAttack", step=3)
