"""Open where samples are, each once: shards on disk or at an address, or images as they are."""

from pathlib import Path

from harmonizer.data.dataset import OnError, SampleFolder
from harmonizer.data.direct.folder import DirectFolder, Reading, open_direct, say
from harmonizer.data.direct.huggingface import DatasetSplit
from harmonizer.data.direct.layout import Location, image_among_shards, is_direct
from harmonizer.data.shards.manifest import NAME, Manifest
from harmonizer.data.shards.reader import ShardFolder, folder_manifest, has_repeated_keys
from harmonizer.data.shards.remote import RemoteCache, is_remote


class Opener:
    """Open locations of samples.

    Args:
        cache: Of remote shards.
        reading: How images that are not shards are read.
        on_error: What one gets that cannot be used; see :func:`open_direct`.
        verify: As for :class:`ShardFolder`.
    """

    def __init__(self, cache: RemoteCache, reading: Reading, *, on_error: OnError, verify: bool) -> None:
        self.cache, self.reading, self.on_error, self.verify = cache, reading, on_error, verify
        self._direct: dict[str, DirectFolder | None] = {}

    def direct(self, location: Location) -> DirectFolder | None:
        """Return images that are read as they are; None where there are shards, or nothing.

        Raises:
            ImportError, FileNotFoundError, ValueError: As :func:`open_direct`; or settings for such images are given
                for shards.
        """
        name = str(location)
        if name not in self._direct:
            if is_direct(location):
                self._direct[name] = open_direct(location, self.reading, on_error=self.on_error)
                return self._direct[name]
            self._direct[name] = None
            if given := self.reading.given():
                raise ValueError(
                    f"{given} is for images that are read as they are, and {location} holds shards or nothing"
                )
            image = None if isinstance(location, DatasetSplit) else image_among_shards(location)
            if image is not None:
                say(f"{location} holds shards and images, such as {image}; the shards are read, not the images")
        return self._direct[name]

    def manifest(self, location: Location) -> Manifest:
        """Return what a location holds."""
        direct = self.direct(location)
        if direct is not None:
            return direct.manifest
        assert not isinstance(location, DatasetSplit)
        return folder_manifest(location, cache=self.cache)

    def folder(self, location: Location, manifest: Manifest) -> SampleFolder:
        """Return a location's samples; the manifest is its own, with the classes of others."""
        direct = self.direct(location)
        if direct is not None:
            direct.manifest = manifest
            return direct
        assert not isinstance(location, DatasetSplit)
        return ShardFolder(location, manifest=manifest, cache=self.cache, verify=self.verify)

    def has_repeated_keys(self, location: Location, manifest: Manifest) -> bool:
        """Return whether samples are named by shard and key."""
        return (
            not isinstance(location, DatasetSplit)
            and not self.direct(location)
            and has_repeated_keys(location, manifest)
        )

    def has_names(self, location: Location) -> bool:
        """Return whether a location brings names for its classes; remote ones must."""
        if isinstance(location, DatasetSplit) or is_remote(location):
            return True
        return self.direct(location) is not None or (Path(location) / NAME).is_file()


def exists(location: Location) -> bool:
    """Return whether there is such a place; of a remote one that is not known beforehand."""
    return isinstance(location, DatasetSplit) or is_remote(location) or Path(location).exists()
