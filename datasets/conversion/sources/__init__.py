"""Where collections come from: a row each."""
import dataclasses
from collections.abc import Callable, Mapping

from datasets.conversion.collection import Collection, SplitOptions


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that a dataset is published in; its size and a hash, in hexadecimal, where they are known."""

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """How a known dataset is read.

    Attributes:
      name: the dataset's.
      read: called with a folder that holds what the archives unpack to (a user's --source_dir, or the downloads) and
        the options of the split; returns the Collection, or raises DatasetError.
      archives: what to download; none where the owners of the images want to be asked first.
      advice: where archives is empty: where to get the files, and what --source_dir should hold; a sentence.
    """

    name: str
    read: Callable[[str, SplitOptions], Collection]
    archives: tuple[Archive, ...] = ()
    advice: str = ''


SOURCES: Mapping[str, Source] = {source.name: source for source in (
    # A row for each dataset.
)}
