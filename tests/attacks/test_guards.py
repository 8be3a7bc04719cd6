import logging

import pytest
import torch
from torch import nn

from harmonizer.attacks import Status, minimal_radius


def test_the_model_and_the_random_state_are_untouched():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(512, 3)
    )
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.full_like(model[5].weight, 7.0)
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layout = [(p.data_ptr(), p.stride()) for p in model.parameters()]
    state = torch.get_rng_state()
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % 3
    attacks = ("linsley2023", "pgd", "ddn")
    results = [minimal_radius(model, images, labels, attack=attack) for attack in attacks]
    assert all((result.status == Status.FOUND).any() for result in results)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [(p.data_ptr(), p.stride()) for p in model.parameters()] == layout
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    assert (model[5].weight.grad == 7).all()
    assert all(p.grad is None for name, p in model.named_parameters() if name != "5.weight")


def test_mode_and_weights_are_restored_after_an_error():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            assert self.layer.weight.is_contiguous(memory_format=torch.channels_last)  # like the images, on a CPU
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        minimal_radius(model, torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    assert model.training
    assert model.layer.weight.is_contiguous()


def test_a_convolution_that_views_its_weight_is_attacked():
    class Standardised(nn.Conv2d):
        def forward(self, images):
            mean = self.weight.view(len(self.weight), -1).mean(1)
            return self._conv_forward(images, self.weight - mean[:, None, None, None], self.bias)

    torch.manual_seed(0)
    model = nn.Sequential(Standardised(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    images = torch.rand(4, 3, 8, 8)
    result = minimal_radius(model, images, model(images).argmax(1), attack="linsley2023")
    assert (result.status == Status.FOUND).any()


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn"])
@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_results_are_the_same_inside_any_context(golden, golden_net, attack, context):
    plain = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack)
    with context():
        images = golden["images"] * 1  # an inference tensor, in inference mode
        inside = minimal_radius(golden_net, images, golden["labels"], attack=attack)
    assert torch.equal(inside.status, plain.status)
    torch.testing.assert_close(inside.l2, plain.l2, equal_nan=True)


def test_dropout_is_off_and_batch_statistics_are_fixed(golden):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), nn.Flatten(), nn.Linear(3072, 4)).train()
    labels = model.eval()(golden["images"]).argmax(1)
    model.train()
    result = minimal_radius(model, golden["images"], labels)
    assert (result.status != Status.WRONG).all()


def test_a_noisy_model_gives_reproducible_radii(golden, golden_net):
    golden_net.register_forward_hook(lambda module, inputs, output: output + 1e-3 * torch.randn_like(output))
    first, second = (minimal_radius(golden_net, golden["images"], golden["labels"], attack="pgd") for _ in range(2))
    torch.testing.assert_close(first.l2, second.l2, rtol=0, atol=0, equal_nan=True)


def test_running_out_of_memory_halves_the_batch_and_warns(golden, golden_net, caplog):
    def small_memory(module, inputs):
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("out of memory")

    expected = minimal_radius(golden_net, golden["images"], golden["labels"], attack="pgd")
    golden_net.register_forward_pre_hook(small_memory)
    with caplog.at_level(logging.WARNING):
        result = minimal_radius(golden_net, golden["images"], golden["labels"], attack="pgd")
    assert "continuing with 3" in caplog.text
    torch.testing.assert_close(result.l2, expected.l2, rtol=1e-4, atol=0, equal_nan=True)
    assert torch.equal(result.forwards, expected.forwards)  # a pass that failed is not counted


def test_running_out_of_memory_on_one_image_is_an_error(golden, golden_net):
    def no_memory(module, inputs):
        raise torch.OutOfMemoryError("out of memory")

    golden_net.register_forward_pre_hook(no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        minimal_radius(golden_net, golden["images"], golden["labels"])


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn"])
def test_amp_searches_in_bfloat16_but_decides_in_float32(golden, golden_net, attack):
    exact = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack)
    dtypes = set()
    golden_net.fc.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    result = minimal_radius(golden_net, golden["images"], golden["labels"], attack=attack, amp=torch.bfloat16)
    assert dtypes == {torch.bfloat16, torch.float32}
    found = result.status == Status.FOUND
    assert (found == (exact.status == Status.FOUND)).all()
    assert (golden_net(result.adversarial).argmax(1) != golden["labels"])[found].all()
    ratio = (result.l2 / exact.l2)[found]
    assert ratio.mean() < 1.05


def test_progress_is_reported(golden, golden_net):
    seen = []
    minimal_radius(
        golden_net, golden["images"], golden["labels"], progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (14, 14)
    assert seen == sorted(seen)


def test_an_empty_batch_gives_an_empty_result(golden_net):
    for attack in ("linsley2023", "pgd", "ddn"):
        result = minimal_radius(golden_net, torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.int64), attack=attack)
        assert result.status.shape == result.l2.shape == (0,)
        assert result.adversarial.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn", "linsley2023_as_published"])
def test_the_model_never_gets_an_empty_batch(golden, golden_net, attack):
    labels = (golden_net(golden["images"]).argmax(1) + 1) % 10
    sizes = []
    golden_net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    result = minimal_radius(golden_net, golden["images"], labels, attack=attack)  # transformers fail on an empty batch
    assert (result.status == Status.WRONG).all()
    assert min(sizes) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "dnd"}, "try 'ddn'"),
        ({"attack": "pgd", "step": 3}, "expected settings of pgd among .*'steps'.*got 'step'"),
        ({"images": torch.full((2, 3, 4, 4), 1.5)}, r"finite images in \[0,1\]"),
        ({"images": torch.full((2, 3, 4, 4), torch.nan)}, r"finite images in \[0,1\]"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.float16)}, r"try images.float\(\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels"),
        ({"labels": torch.tensor([0, 9])}, r"labels in \[0,K\)"),
        ({"keys": ["a"]}, "one key per image"),
        ({"batch_size": 0}, "batch_size"),
        ({"steps": 0}, "steps"),
        ({"steps": 1e6}, "expected steps to be a whole number, got 1000000.0"),
        ({"steps": True}, "expected steps to be a whole number, got True"),
        ({"eps_max": "1"}, "expected eps_max to be a number, got '1'"),
        ({"attack": "pgd", "objective": 1}, "expected objective to be text, got 1"),
        ({"eps_max": -1.0}, "eps_max"),
    ],
)
def test_errors_name_the_invalid_argument(change, message):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    given = {"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0, 1]), **change}
    with pytest.raises(ValueError, match=message):
        minimal_radius(model, given.pop("images"), given.pop("labels"), **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attack", ["linsley2023", "pgd", "ddn"])
def test_a_model_may_change_its_input_in_place(attack, dtype):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).to(dtype).eval()

    class Centred(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.layers, self.in_place = layers, in_place

        def forward(self, images):
            return self.layers(images.sub_(0.5) if self.in_place and not images.requires_grad else images - 0.5)

    images = torch.rand(5, 3, 8, 8, dtype=dtype)
    labels = layers(images - 0.5).argmax(1)
    before = images.clone()
    results = [minimal_radius(Centred(in_place).eval(), images, labels, attack=attack) for in_place in (False, True)]
    assert torch.equal(images, before)
    assert torch.equal(results[0].adversarial, results[1].adversarial)
    assert (results[0].status == Status.FOUND).any()


@pytest.mark.parametrize("attack", ["ddn", "ddn_full"])
def test_without_an_image_to_attack_no_step_is_run(attack):
    model, steps = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), 10**9
    images = torch.rand(2, 3, 4, 4)
    labels = (model(images).argmax(1) + 1) % 3
    result = minimal_radius(model, images, labels, attack=attack, steps=steps, walk_steps=steps)
    assert (result.forwards.tolist(), result.backwards.tolist()) == ([1, 1], [0, 0])
