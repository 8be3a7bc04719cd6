"""Model outputs: non-finite logits, logits plus a constant, other float types and other containers."""

import dataclasses
import logging

import pytest
import torch
from torch import nn

from harmonizer.attacks import Status, gradient_masking_report, minimal_radius
from harmonizer.models import evaluation_saliency

ATTACKS = [
    "linsley2023",
    "linsley2023_as_published",
    "pgd",
    "ddn",
    "ddn_full",
    *("feng2025", "foolbox:DDNAttack", "foolbox:L2DeepFoolAttack"),
]
SETTINGS = {"feng2025": {"steps": 30}, "foolbox:DDNAttack": {"steps": 30}}
# Foolbox's code raises these warnings; ours must not.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}Warning") for kind in ("Deprecation", "Syntax", "User")]


class Linear(nn.Module):
    """A linear model; ``answer`` makes the output from its logits and the images."""

    def __init__(self, answer=lambda logits, images: logits):
        super().__init__()
        weight = torch.randn(4, 108, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight)
        self.answer = answer

    def forward(self, images):
        return self.answer((images.flatten(1) - 0.5) @ self.weight.T, images)


@pytest.fixture
def images():
    return 0.5 + 0.05 * torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(images):
    return Linear()(images).argmax(1)


def attacked(model, images, labels, attack, **settings):
    if ":" in attack or attack == "feng2025":
        pytest.importorskip("foolbox")
    return minimal_radius(model, images, labels, attack=attack, **SETTINGS.get(attack, {}), **settings)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nonfinite_logits_are_neither_fooled_nor_robust(images, labels, attack, value):
    def away(logits, inputs):
        moved = torch.cdist(inputs.flatten(1), images.flatten(1)).amin(1) > 1e-3
        return logits + torch.where(moved, value, 0.0)[:, None] * torch.tensor([0.0, 1.0, 0.0, 0.0])[None].nan_to_num()

    def clean(logits, inputs):
        return torch.where((inputs == images[:1]).flatten(1).all(1)[:, None], value, logits)

    if attack != "linsley2023_as_published":  # it rescales the images, so that all of them are away
        result = attacked(Linear(away), images, labels, attack)
        assert (result.status == Status.FAILED).all()
        assert result.l2.isnan().all()
    # A clean image with such logits is neither wrong nor correct, whatever its label.
    for label in (0, 3):
        labels[0] = label
        status = attacked(Linear(clean), images, labels, attack).status
        if attack != "linsley2023_as_published":
            assert status[0] == Status.FAILED
        assert (status[1:] == Status.FOUND).all() or attack == "linsley2023_as_published"


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn", "ddn_full"])
@pytest.mark.parametrize("constant", [1e5, -1e5, 1e6])
def test_a_constant_added_to_all_logits_changes_only_rounding(golden, golden_net, attack, constant):
    images, labels = golden["images"], golden["labels"]
    before = minimal_radius(golden_net, images, labels, attack=attack)
    golden_net.fc.bias.data += constant
    after = minimal_radius(golden_net, images, labels, attack=attack)
    assert torch.equal(after.status, before.status)
    steps = 0.02 if abs(constant) < 1e6 else 0.15  # the spacing of the logits is 0.008 or 0.06, their margin about 1
    torch.testing.assert_close(after.l2, before.l2, rtol=2 * steps, atol=0, equal_nan=True)
    found = after.status == Status.FOUND
    alone = torch.cat([golden_net(image[None]).argmax(1) for image in after.adversarial])
    assert torch.equal(alone[found], after.prediction[found])


@pytest.mark.parametrize(("count", "value"), [(1, -1e9), (300, -1e9), (300, torch.finfo(torch.float32).min)])
@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn", "foolbox:DDNAttack"])
def test_masked_out_classes_do_not_change_the_radius(images, labels, attack, count, value):
    def ruled_out(logits, inputs):
        return torch.cat([logits, logits.new_full((len(logits), count), value)], 1)

    before = attacked(Linear(), images, labels, attack)
    after = attacked(Linear(ruled_out), images, labels, attack)
    assert torch.equal(after.status, before.status) and (after.status == Status.FOUND).all()
    torch.testing.assert_close(after.l2, before.l2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn"])
def test_in_float64_a_constant_added_to_logits_has_no_effect(golden, golden_net, attack):
    images, labels = golden["images"].double(), golden["labels"]
    golden_net.double()
    before = minimal_radius(golden_net, images, labels, attack=attack)
    golden_net.fc.bias.data += 1e6
    after = minimal_radius(golden_net, images, labels, attack=attack)
    assert torch.equal(after.status, before.status)
    torch.testing.assert_close(after.l2, before.l2, rtol=1e-4, atol=0, equal_nan=True)


def test_tied_clean_logits_do_not_stop_the_search(images):
    coarse = Linear(lambda logits, inputs: logits + (logits.round() - logits).detach())
    clean = coarse(images)
    tied = (clean == clean.amax(1, keepdim=True)).sum(1) > 1
    assert tied.any()
    result = minimal_radius(coarse, images, clean.argmax(1), attack="ddn")
    assert (result.status == Status.FOUND).all()


@pytest.mark.parametrize(("constant", "flagged"), [(0.0, False), (1e5, True)])
def test_the_masking_report_checks_the_resolution_of_logits(images, constant, flagged):
    model = Linear(lambda logits, inputs: logits + constant)
    report = gradient_masking_report(model, images, model(images).argmax(1), limit=4)
    assert report.masked == flagged, report.reasons
    assert any("step of the logits" in reason for reason in report.reasons) == flagged
    logits = model(images[:4]).detach()
    first, second = logits.topk(2).values.unbind(1)
    expected = (2.0**-23 * logits.abs().amax(1) / (first - second)).median()
    assert report.resolution == pytest.approx(float(expected), rel=1e-5)


def test_the_masking_report_flags_noise_and_failed_attacks(images, labels):
    noisy = Linear(lambda logits, inputs: logits + 0.2 * torch.randn_like(logits) + 1000)
    report = gradient_masking_report(noisy, images, labels, limit=4)
    assert any("same input twice" in reason for reason in report.reasons)

    def away(logits, inputs):
        moved = torch.cdist(inputs.flatten(1), images.flatten(1)).amin(1) > 1e-3
        return torch.where(moved[:, None], torch.nan, 1.0) * logits

    report = gradient_masking_report(Linear(away), images, labels, limit=4)
    assert report.failed == 1
    assert report.random_within == 0
    assert report.masked


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn", "foolbox:DDNAttack"])
@pytest.mark.parametrize(("own", "given"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_images_are_converted_to_the_models_type_with_a_warning(golden, golden_net, caplog, attack, own, given):
    images, labels = golden["images"][:6], golden["labels"][:6]
    expected = attacked(golden_net, images, labels, attack)
    with caplog.at_level(logging.WARNING):
        result = attacked(golden_net.to(own), images.to(given), labels, attack)
    assert [record.message for record in caplog.records] == [f"the model is in {own}: the {given} images are converted"]
    assert result.adversarial.dtype == given
    assert torch.equal(result.status, expected.status)
    torch.testing.assert_close(result.l2, expected.l2, rtol=0.02, atol=0, equal_nan=True)
    saliency = evaluation_saliency(golden_net, images.to(given), labels)
    assert saliency.dtype == given


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_refused_in_one_line(golden, golden_net, dtype):
    with pytest.raises(ValueError, match=rf"expected a model in float32 or float64, got {dtype}.*try model.float\(\)"):
        minimal_radius(golden_net.to(dtype), golden["images"], golden["labels"])
    golden_net.float().register_forward_hook(lambda module, inputs, output: output.to(dtype))
    with pytest.raises(ValueError, match=rf"expected logits in float32 or float64, got {dtype}.*try model.float\(\)"):
        minimal_radius(golden_net, golden["images"], golden["labels"])


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


FORMS = {
    "object": lambda logits: Output(logits),
    "dictionary": lambda logits: {"logits": logits, "features": logits[:, :2]},
    "tuple": lambda logits: (logits, logits[:, :, None]),
    "list": lambda logits: [logits],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attack", ["linsley2023", "ddn", "foolbox:DDNAttack"])
def test_logits_are_found_in_what_a_model_returns(images, labels, attack, form):
    model = Linear(lambda logits, inputs: FORMS[form](logits))
    expected, result = (attacked(each, images, labels, attack) for each in (Linear(), model))
    assert torch.equal(result.adversarial, expected.adversarial)
    saliency = [evaluation_saliency(each, images, labels) for each in (Linear(), model)]
    assert torch.equal(*saliency)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda logits: (logits, logits[:, :2]), r"got tuple of tensor \(2, 4\), tensor \(2, 2\); try a wrapper"),
        (lambda logits: {"out": logits}, r"got dict of 'out': tensor \(2, 4\); try a wrapper"),
        (lambda logits: logits[:1], r"expected logits \(2,K\), one row per image, got \(1, 4\)"),
        (lambda logits: None, r"got NoneType; try a wrapper"),
    ],
)
def test_other_outputs_are_refused_in_one_line(images, labels, output, message):
    model = Linear(lambda logits, inputs: output(logits))
    with pytest.raises(TypeError, match=message):
        minimal_radius(model, images[:2], labels[:2])
    with pytest.raises(TypeError, match=message):
        evaluation_saliency(model, images[:2], labels[:2])


def test_channels_last_and_non_modules_are_refused(images, labels):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(3, 4)

        def forward(self, inputs):
            return self.mix(inputs).mean((1, 2))

    with pytest.raises(ValueError, match=r"takes \(n,H,W,3\) and fails on \(6, 3, 6, 6\).*permute"):
        minimal_radius(Last(), images, labels)
    with pytest.raises(ValueError, match=r"got \(6, 6, 6, 3\), channels last; try images.permute\(0, 3, 1, 2\)"):
        minimal_radius(Linear(), images.permute(0, 2, 3, 1), labels)
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got function"):
        minimal_radius(lambda inputs: inputs, images, labels)


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn", "foolbox:DDNAttack"])
def test_a_model_that_changes_its_input_in_place_is_attacked(images, labels, attack):
    class InPlace(Linear):
        def forward(self, inputs):
            return inputs.sub_(0.5).flatten(1) @ self.weight.T

    before = images.clone()
    expected, result = (attacked(model, images, labels, attack) for model in (Linear(), InPlace()))
    assert torch.equal(images, before)
    assert (result.status == Status.FOUND).all()
    torch.testing.assert_close(result.l2, expected.l2, rtol=1e-3, atol=0)
    assert torch.equal(result.forwards, expected.forwards)
