"""Keras's HDF5 files, read as data: names, plain arrays and the configuration, without following links."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonizer.data.convert.readers.hdf5 import is_hard_link, open_hdf5
from harmonizer.untrusted import parse_json, plain_text, shortened

if TYPE_CHECKING:
    import h5py

MOST_CONFIG = 10**7  # largest model_config in bytes
WHOLE = "model_weights"  # group of the weights in the file of a whole model
FLOATS = ("f2", "f4", "f8")


@dataclass(frozen=True)
class KerasFile:
    """The contents of a file; arrays are read lazily."""

    path: Path
    weights: dict[str, "h5py.Dataset"]  # datasets by Keras's name, such as `conv1_conv/kernel`
    config: Any  # `model_config` of a whole model; None in a file that only holds weights


@contextmanager
def open_weights(path: Path) -> Iterator[KerasFile]:
    """Open a file of ``model.save("x.h5")`` or ``model.save_weights("x.h5")`` of Keras 2, or the same from Keras 3.

    Raises:
        ImportError: h5py is not installed.
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or not HDF5, or holds links, compressed or external arrays, or types other than
            floats.
    """
    with open_hdf5(path, (OSError,)) as file:  # the caller's own errors are not the file's
        yield _read(path, file)


def _read(path: Path, file: "h5py.File") -> KerasFile:
    """Find the weights of each layer, without reading them."""
    import h5py

    whole = dict(_members(path, file)).get(WHOLE)
    weights: dict[str, h5py.Dataset] = {}
    for layer, name, array in _arrays(path, whole if isinstance(whole, h5py.Group) else file):
        plain = name.removesuffix(":0")
        plain = plain if "/" in plain else f"{layer}/{plain}"
        if plain in weights:
            raise ValueError(f"{path}: expected each weight once, got {shortened(plain)} again")
        weights[plain_text(plain, f"{path}: name of a weight")] = _checked(path, plain, array)
    return KerasFile(path, weights, _config(path, file))


def _arrays(path: Path, root: Any) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401 - a group
    """Yield layer, name and array of each weight.

    A group with the attribute ``weight_names`` is a layer. It contains its weights by name, where slashes separate
    groups. The attribute's value is not read: a list of names in a small file can fill the memory.
    """
    import h5py

    seen = set()
    waiting: list[tuple[str, str | None, str, Any]] = [("", None, "", root)]
    while waiting:
        place, layer, before, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise ValueError(f"{path}: expected each group once, got {shortened(place)} again")
        seen.add(address)
        if "weight_names" in group.attrs or "weight_names0" in group.attrs:
            layer, before = place, ""
        for name, member in _members(path, group):
            if isinstance(member, h5py.Group):
                waiting.append((f"{place}/{name}".lstrip("/"), layer, f"{before}{name}/", member))
            elif layer is None:
                raise ValueError(
                    f"{path}: expected weights by layer name, got {shortened(name)} outside of any layer; Keras 3's "
                    '.weights.h5 has no layer names: load it in Keras, then model.save("weights.h5")'
                )
            else:
                yield layer, before + name, member


def _members(path: Path, group: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a group
    """Yield names and members of a group; links, which may leave the file, are refused."""
    for name in group:
        if not isinstance(name, str):
            raise ValueError(f"{path}: expected names in UTF-8, got {shortened(name)}")
        if not is_hard_link(group, name):
            raise ValueError(
                f"{path}: expected weights in the file, got a link at {shortened(name)}; it is not followed"
            )
        yield name, group[name]


def _checked(path: Path, name: str, array: Any) -> "h5py.Dataset":  # noqa: ANN401 - what HDF5 holds under a name
    """Return a dataset after checking that it holds floats, uncompressed and in this file."""
    import h5py

    where = f"{path}: {shortened(name)}"
    if not isinstance(array, h5py.Dataset) or array.dtype.str[1:] not in FLOATS:
        raise ValueError(f"{where}: expected an array of floats, got {getattr(array, 'dtype', type(array).__name__)}")
    if array.is_virtual or array.external:
        raise ValueError(f"{where}: expected an array in the file, got one in another file; it is not read")
    if array.id.get_create_plist().get_nfilters() or array.id.get_storage_size() < array.nbytes:
        raise ValueError(
            f"{where}: expected {array.nbytes} uncompressed bytes, got {array.id.get_storage_size()} stored"
        )
    return array


def _config(path: Path, file: "h5py.File") -> Any:  # noqa: ANN401 - JSON
    """Return the configuration of a whole model."""
    if "model_config" not in file.attrs:
        return None
    kind = file.attrs.get_id("model_config")
    text = file.attrs["model_config"] if kind.shape == () else None
    if not isinstance(text, str | bytes) or len(text) > MOST_CONFIG:
        raise ValueError(f"{path}: expected model_config in JSON of up to {MOST_CONFIG} bytes, got {kind.dtype}")
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: expected model_config in JSON ({error})") from None
