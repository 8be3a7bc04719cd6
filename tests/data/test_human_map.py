"""Prepared human maps against the published values and an independent calculation."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from harmonizer.data import prepare_human_map
from harmonizer.data.human_map import GAUSSIAN_SIGMA


def reference(raw: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Average the central 2x2 of each 4x4 block, apply the recorded window in 2-D, resize with torch."""
    small = raw.reshape(64, 4, 64, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    padded = np.pad(small, ((4, 5), (4, 5)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (10, 10))
    blurred = torch.from_numpy((windows * kernel).sum(axis=(2, 3)))
    return torch.nn.functional.interpolate(blurred[None, None], size=(224, 224), mode="bilinear")[0, 0].numpy()


def test_fel2022_uses_the_recorded_window(golden_clickme):
    raw = np.random.default_rng(0).random((256, 256))
    kernel = golden_clickme["blur_kernel"].astype(np.float64)
    np.testing.assert_allclose(prepare_human_map(raw), reference(raw, kernel), rtol=1e-6)


def test_fel2022_shifts_a_map_as_published():
    raw = np.zeros((256, 256))
    raw[128:132, 128:132] = 1  # pixel (32,32) of 64
    prepared = prepare_human_map(raw)
    centre = np.array(ndimage.center_of_mass(prepared)) * 64 / 224 + 0.5 * 64 / 224 - 0.5
    np.testing.assert_allclose(centre - 32, [-0.46, -0.54], atol=0.005)


def test_gaussian_is_centred_and_as_wide_as_fel2022():
    raw = np.zeros((256, 256))
    raw[128:132, 128:132] = 1
    prepared = prepare_human_map(raw, method="gaussian")
    centre = np.array(ndimage.center_of_mass(prepared)) * 64 / 224 + 0.5 * 64 / 224 - 0.5
    np.testing.assert_allclose(centre, [32, 32], atol=1e-6)

    def width(method):
        rows = prepare_human_map(raw, method=method).sum(axis=1)
        positions = np.arange(224) * 64 / 224
        mean = (rows * positions).sum() / rows.sum()
        return np.sqrt((rows * (positions - mean) ** 2).sum() / rows.sum())

    assert width("gaussian") == pytest.approx(width("fel2022"), rel=0.01)


def test_gaussian_equals_scipy_with_a_mirrored_border():
    raw = np.random.default_rng(1).random((256, 256))
    small = raw.reshape(64, 4, 64, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    blurred = ndimage.gaussian_filter(small, GAUSSIAN_SIGMA, mode="reflect", radius=11)
    expected = torch.nn.functional.interpolate(torch.from_numpy(blurred)[None, None], size=(224, 224), mode="bilinear")
    np.testing.assert_allclose(prepare_human_map(raw, method="gaussian"), expected[0, 0], rtol=1e-10)


def test_none_only_resizes():
    raw = torch.rand(2, 256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(raw[:, None], size=(224, 224), mode="bilinear")[:, 0]
    torch.testing.assert_close(prepare_human_map(raw, method="none"), expected)


@pytest.mark.parametrize("method", ["fel2022", "gaussian", "none"])
def test_dtypes_and_batches_agree(method):
    raw = np.random.default_rng(2).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    one_by_one = np.stack([prepare_human_map(one.astype(np.float64), method=method) for one in raw])
    assert one_by_one.dtype == np.float64
    for given in (raw, raw.astype(np.uint16), raw.astype(">f4"), raw[:, ::-1, :][:, ::-1, :].astype(np.float16)):
        prepared = prepare_human_map(given, method=method)
        assert isinstance(prepared, np.ndarray)
        assert prepared.dtype == np.float32
        np.testing.assert_allclose(prepared, one_by_one, rtol=1e-5)
    tensor = prepare_human_map(torch.from_numpy(raw), method=method)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, one_by_one, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((224, 224)), ValueError, r"expected a map \(256,256\)"),
        (np.zeros((256, 256, 1)), ValueError, r"\(256, 256, 1\)"),
        (np.full((256, 256), np.nan), ValueError, "finite"),
        (np.zeros((256, 256), dtype=complex), TypeError, "complex"),
        (np.zeros((256, 256), dtype=bool), TypeError, "bool"),
        (torch.zeros(256, 256, dtype=torch.bool), TypeError, "bool"),
        ([[0.0]], TypeError, "list"),
    ],
)
def test_wrong_input_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        prepare_human_map(given)


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="fel2022, gaussian, none, got 'box'"):
        prepare_human_map(np.zeros((256, 256)), method="box")
