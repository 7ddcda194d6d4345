"""Pictures that earlier runs learned from, kept so that learning new classes does not drive out the old ones.

Knows nothing of networks and of crops. A saved buffer is a folder that needs nothing else: replay.json (COCO with
descriptions) and images/ (copies of the pictures and of their defect-free templates, named by their bytes).
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from export.contract.defects import Defect
from training.data.coco import read_coco, write_coco
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.source import join_datasets

GOOD_BOARD, SPARSE_LABEL = "<good board>", "<sparse label>"  # classes of pictures without boxes
SAMPLES, IMAGES = "replay.json", "images"
DIGEST = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class _Entry:
    """A sample, the digest of its picture's bytes, its random key in 0..1, and the ids of its classes."""

    sample: Sample
    digest: str
    key: float
    classes: frozenset[str]


class ReplayBuffer:
    """At most `capacity` samples, balanced over classes and, within a class, drawn uniformly from all ever offered.

    As in class-balancing reservoir sampling (Chrysakis and Moens, Online Continual Learning from Imbalanced Data,
    2020), a full buffer makes room by giving up a sample of the class that has most. Within a class it is a reservoir
    (Vitter, Random Sampling with a Reservoir, 1985), drawn by keys: a sample's key is a random number made of `seed`
    and the picture's bytes, and the smallest keys stay. So a picture that is offered twice is drawn once, and a
    buffer that was saved goes on as if it had not been.

    A sample belongs to all classes of its boxes and is filed under the one that fewest of the kept samples show. Good
    boards are a class, and so are pictures with sparse labels only.
    """

    def __init__(self, capacity: int = 1000, seed: int = 0) -> None:
        self.capacity = capacity
        self.seed = seed
        self._categories: tuple[Defect, ...] = ()
        self._entries: dict[str, _Entry] = {}  # by digest
        self._shown: Counter[str] = Counter()  # kept samples that show a class

    def __len__(self) -> int:
        return len(self._entries)

    def counts(self) -> dict[str, int]:
        """Samples that show each class, by its id; a sample of several classes counts for each."""
        return {name: count for name, count in sorted(self._shown.items()) if count}

    def update(self, dataset: Dataset) -> None:
        """Offers every sample of a dataset; a picture already kept gets its newest labels. Reads all its pictures.

        Categories of one id are one, with the words of the newest dataset.
        """
        joined = join_datasets([dataset, self.as_dataset()])
        offered, kept = joined.samples[: len(dataset.samples)], joined.samples[len(dataset.samples) :]
        self._categories = joined.categories
        self._entries = {
            entry.digest: replace(entry, sample=sample)  # class_ids are those of the joined categories now
            for entry, sample in zip(self._entries.values(), kept, strict=True)
        }
        for sample in offered:
            self._offer(self._enter(sample))

    def as_dataset(self) -> Dataset:
        """The samples kept, with every category ever offered."""
        return Dataset(self._categories, tuple(entry.sample for entry in self._entries.values()))

    def save(self, folder: Path) -> int:
        """Writes the buffer beside its final place and renames it there, replacing an earlier one; returns its bytes.

        Raises:
            OSError: a picture cannot be copied.
        """
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / IMAGES).mkdir(parents=True)
        samples = [
            replace(
                entry.sample,
                path=_copy(entry.sample.path, entry.digest, partial / IMAGES),
                template=None
                if entry.sample.template is None
                else _copy(entry.sample.template, digest(entry.sample.template), partial / IMAGES),
            )
            for entry in self._entries.values()
        ]
        info = {"description": "pictures to be learned from again", "seed": str(self.seed)}
        write_coco(Dataset(self._categories, tuple(samples)), partial / SAMPLES, info)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    @classmethod
    def load(cls, folder: Path, capacity: int) -> Self:
        """The buffer that `save` wrote, which goes on with the seed it began with; surplus is given up.

        Raises:
            DatasetError: replay.json is missing, or has faults, all of which are named.
        """
        file = folder / SAMPLES
        if not file.is_file():
            raise DatasetError(
                f"{folder} is not a replay buffer: {SAMPLES} is missing; a checkpoint holds one if it was trained with "
                "data.replay.save: true; set data.replay.checkpoint to such a one, or to null"
            )
        dataset = read_coco(file)
        seed = str(json.loads(file.read_text(encoding="utf-8")).get("info", {}).get("seed", ""))
        if not seed.isdecimal():
            raise DatasetError(f"{file}: info.seed is {seed!r}, expected the seed that its pictures were drawn with")
        buffer = cls(capacity, int(seed))
        buffer.update(dataset)
        return buffer

    def _enter(self, sample: Sample) -> _Entry:
        name = digest(sample.path)
        drawn = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        classes = {self._categories[class_id].id for class_id in sample.class_ids}
        classes = classes or {SPARSE_LABEL if sample.image_descriptions else GOOD_BOARD}
        return _Entry(sample, name, int.from_bytes(drawn[:8]) / 2**64, frozenset(classes))

    def _offer(self, entry: _Entry) -> None:
        earlier = self._entries.get(entry.digest)
        if earlier is not None:
            self._shown.subtract(earlier.classes)
        self._entries[entry.digest] = entry
        self._shown.update(entry.classes)
        if len(self) > self.capacity:
            self._give_up()

    def _give_up(self) -> None:
        """Removes the sample with the largest key among those filed under the class that has most."""
        victim = max(self._entries.values(), key=lambda entry: (self._shown[self._filed_under(entry)], entry.key))
        self._shown.subtract(victim.classes)
        del self._entries[victim.digest]

    def _filed_under(self, entry: _Entry) -> str:
        return min(entry.classes, key=lambda name: (self._shown[name], name))


def digest(path: Path) -> str:
    """The name of a picture by its bytes: 32 hexadecimal digits, of which no two pictures share all."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _copy(picture: Path, name: str, folder: Path) -> Path:
    return Path(shutil.copyfile(picture, folder / f"{name}{picture.suffix.lower()}"))
