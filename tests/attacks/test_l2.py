"""Norms and projections per image, in each memory layout."""

import pytest
import torch

from harmonizer.attacks import minimal_radius
from harmonizer.attacks.l2 import is_usable, largest, norms, rows_of, to_sphere, unit

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def vectors(layout=torch.contiguous_format):
    drawn = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_views_with_the_norms_of_the_images(layout):
    images = vectors(layout)
    flat = vectors().flatten(1)
    assert rows_of(images).data_ptr() == images.data_ptr()
    assert rows_of(images).shape == flat.shape
    torch.testing.assert_close(norms(images), flat.norm(dim=1))
    torch.testing.assert_close(largest(images), flat.abs().amax(1))
    assert rows_of(torch.rand(4, 7)).shape == (4, 7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unit_normalises_usable_rows_and_zeroes_the_others(layout):
    values = vectors(layout)
    values[1] = 0.0
    values[2, 0, 1, 1] = torch.nan
    values[3, 2, 0, 0] = -torch.inf
    values[4] *= 1e-200  # its squares underflow
    before = values.clone()
    found, usable = unit(values)
    torch.testing.assert_close(values, before, rtol=0, atol=0, equal_nan=True)
    assert usable.tolist() == is_usable(values).tolist() == [True, False, False, False, True, True]
    torch.testing.assert_close(norms(found), usable.double())
    cosine = (found * vectors(layout)).sum((1, 2, 3)) / norms(vectors(layout))
    torch.testing.assert_close(cosine, usable.double())
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_to_sphere_moves_each_image_to_its_radius(layout):
    images = torch.full((6, 3, 5, 4), 0.5, dtype=torch.float64).contiguous(memory_format=layout)
    radius = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)
    moved = to_sphere(images, images + vectors(layout), radius)
    torch.testing.assert_close(norms(moved - images), radius)
    assert torch.equal(to_sphere(images, images.clone(), radius), images)


def test_results_are_contiguous_and_equal_in_both_layouts():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4))
    images = torch.rand(5, 3, 8, 8)
    labels = model(images).argmax(1)
    for attack in ("linsley2023", "pgd", "ddn"):
        results = [minimal_radius(model, images.contiguous(memory_format=x), labels, attack=attack) for x in LAYOUTS]
        assert all(result.adversarial.is_contiguous() for result in results)
        assert torch.equal(results[0].adversarial, results[1].adversarial)
        assert (results[0].status == 2).any()
