"""One preprocessing job on one store folder: its images, its parts, what is done already, and who may write."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from placecli.config import Preset
from placecli.data.atomic import locked, remove_temporaries, write_file
from placecli.data.decode import PlannedImage
from placecli.data.identity import Pseudonyms, read_key
from placecli.data.listing import Fingerprint, Listing, check_unchanged, fingerprint, list_images
from placecli.data.parts import part_path
from placecli.data.store import PARTS, read_description
from placecli.records import PlaceError

_MANIFEST_BYTES_PER_IMAGE = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """What `place preprocess` was asked for, with the release listed. `shard` (i, n): parts k with k mod n == i."""

    preset: Preset
    out: Path
    shard: tuple[int, int] | None
    pseudonyms: Pseudonyms
    listing: Listing
    fingerprint: Fingerprint

    @property
    def num_parts(self) -> int:
        return -(-len(self.listing.images) // self.preset.preprocess.images_per_shard)

    def own_parts(self) -> list[int]:
        """The parts that this run is to see done, in order."""
        index, count = self.shard or (0, 1)
        return [number for number in range(self.num_parts) if number % count == index]

    def missing_parts(self) -> list[int]:
        """Those of them that no earlier run finished."""
        return [number for number in self.own_parts() if not self.is_part_done(number)]

    def num_parts_done(self) -> int:
        """Parts of the whole store that are there."""
        return sum(self.is_part_done(number) for number in range(self.num_parts))

    def is_part_done(self, number: int) -> bool:
        return part_path(self.out, number).is_file()

    def part(self, number: int) -> Sequence[PlannedImage]:
        """The images of a part: a run of `images_per_shard` in the order of the listing."""
        length = self.preset.preprocess.images_per_shard
        return self.listing.images[number * length : (number + 1) * length]

    def num_bytes(self, numbers: Sequence[int]) -> int:
        """Disk that these parts take at most, manifest included."""
        frame = self.preset.preprocess.size**2
        images = [image for number in numbers for image in self.part(number)]
        num_frames = len(images) + sum(bool(image.mask) for image in images)
        return num_frames * frame + len(images) * _MANIFEST_BYTES_PER_IMAGE

    def check_disk(self) -> None:
        """Raises PlaceError when the missing parts cannot fit."""
        need, free = self.num_bytes(self.missing_parts()), free_bytes(self.out)
        if need > free:
            raise PlaceError(
                f"{self.out}: the store needs about {need / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free;"
                " free some, give --out on another disk, or lower preprocess.size"
            )

    def is_finished(self) -> bool:
        """Whether the folder holds this very store, whole. Raises PlaceError if it holds another one."""
        description = read_description(self.out)
        if description is None:
            return False
        check_unchanged(description["fingerprint"], self.fingerprint, self.out, is_finished=True)
        return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and hold it: whole, or one shard of it beside other shards.

        Raises PlaceError where another run holds it or where the folder has other things in it.
        """
        folder = self.out / PARTS
        if self.out.is_dir() and not folder.is_dir() and any(self.out.iterdir()):
            raise PlaceError(f"{self.out}: not empty and not a store; give --out a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        busy = f"{self.out}: another `place preprocess` is writing this store; wait for it or give another --out"
        with contextlib.ExitStack() as locks:
            locks.enter_context(locked(folder / "lock", alone=self.shard is None, busy=busy))
            if self.shard is not None:
                name = "lock-{}-of-{}".format(*self.shard)
                locks.enter_context(locked(folder / name, alone=True, busy=busy))
            yield

    def begin(self) -> None:
        """Leave the fingerprint in the folder, or compare it with the one that is there. Call it under the lock."""
        if self.shard is None:
            remove_temporaries(self.out)
            remove_temporaries(self.out / PARTS)
        plan = self.out / PARTS / "plan.json"
        if plan.is_file():
            check_unchanged(json.loads(plan.read_text("utf-8")), self.fingerprint, self.out, is_finished=False)
        else:
            write_file(plan, json.dumps(asdict(self.fingerprint), sort_keys=True).encode())


def open_job(preset: Preset, root: Path, out: Path, shard: tuple[int, int] | None, pseudonymize: Path | None) -> Job:
    """List the release and describe the job; writes nothing. Raises PlaceError as `list_images` and `read_key` do."""
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise PlaceError(f"--shard {shard[0]}/{shard[1]}: write i/n with i from 0 to n - 1")
    pseudonyms = read_key(pseudonymize)
    for name in ("reports", "labels"):
        table = getattr(preset.preprocess, name)
        if table is not None and not table.is_file():
            raise PlaceError(f"preprocess.{name}: {table} is not a file; correct the path")
    listing = list_images(preset.preprocess, root, pseudonyms)
    return Job(preset, out, shard, pseudonyms, listing, fingerprint(preset.preprocess, listing, pseudonyms))


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that `path` is on or would be on."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def named_write_errors(out: Path) -> Iterator[None]:
    """Turn an error of the file system under `out` into a PlaceError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlaceError(f"{out}: the disk is full; free some space, the same command continues") from error
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise PlaceError(f"{out}: the store cannot be written ({reason}); check the folder and its rights") from error
