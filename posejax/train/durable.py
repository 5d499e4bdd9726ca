"""Checkpoint folders that survive a power failure, or are known not to have.

Everything of a checkpoint is on the disk before the folder gets its final name, with a list of the
files, their sizes and checksums. A folder that does not agree with its list was cut off, or a disk
has changed it since, and is set aside.
"""

import asyncio
import json
import os
import zlib
from pathlib import Path

from orbax.checkpoint._src.path import atomicity

from posejax import config_io

CONTENTS = "contents.json"  # [size, CRC-32] of each file beside it, by path
DAMAGED = "damaged"  # folder of the run for checkpoints that are not whole
# orbax changes these two while it finishes.
_METADATA, _LATE = "_CHECKPOINT_METADATA", ("_CHECKPOINT_METADATA", "commit_success.txt")
_ALWAYS = ("meta/metadata", "model/_METADATA", "trainer/_METADATA")  # of lists-less folders


class DurablePath(atomicity.AtomicRenameTemporaryPath):
    """orbax's rename of the finished folder, between two rounds of fsync.

    Old checkpoints are deleted after `finalize`: when the new one is certainly on the disk.
    """

    async def finalize(self) -> None:
        if Path(self.get_final()).name.isdigit():  # its items are sealed with it
            await asyncio.to_thread(seal, Path(self.get()))
        await super().finalize()
        final = Path(self.get_final())
        await asyncio.to_thread(config_io.sync_tree, final)
        await asyncio.to_thread(config_io.sync, final.parent)


def seal(folder: Path) -> None:
    """Write the list of a checkpoint's files, and all of it to the disk."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in _LATE]
    found = {str(p.relative_to(folder)): [p.stat().st_size, _checksum(p)] for p in files}
    (folder / CONTENTS).write_text(json.dumps(found) + "\n", encoding="utf-8")
    config_io.sync_tree(folder)


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def fault(folder: Path, *, contents: bool = False) -> str | None:
    """What is not whole about a checkpoint, None if nothing is.

    Args:
      contents: also read all bytes and compare checksums, which the arrays' own format has not.
    """
    try:
        listed = folder / CONTENTS
        for name in (_METADATA, *([CONTENTS] if listed.is_file() else _ALWAYS)):
            path = folder / name
            if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                return f"{name} holds no JSON object"
        if listed.is_file():
            for name, entry in json.loads(listed.read_text(encoding="utf-8")).items():
                # Before there were checksums an entry was the size alone.
                size, checksum = entry if isinstance(entry, list) else (entry, None)
                found = (folder / name).stat().st_size
                if found != size:
                    return f"{name} has {found:,} bytes of {size:,}"
                if contents and checksum not in (None, _checksum(folder / name)):
                    return f"{name} has other bytes than were written"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).relative_to(folder)} is missing"
    except (OSError, ValueError, TypeError) as error:
        return f"cannot be read ({error})"
    return None


def set_aside(checkpoints: Path) -> list[str]:
    """Move every checkpoint that is not whole to RUN/damaged; a line for people about each.

    The newest one that is left is whole to the last byte; of older ones only the sizes are known.
    """
    told, newest = [], True
    folders = [p for p in checkpoints.glob("[0-9]*") if p.is_dir() and p.name.isdigit()]
    for folder in sorted(folders, key=lambda p: int(p.name), reverse=True):
        found = fault(folder, contents=newest)
        if found is None:
            newest = False
            continue
        target = checkpoints.parent / DAMAGED / f"step_{folder.name}"
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"step_{folder.name}_{number}")
        os.replace(folder, target)
        config_io.sync(checkpoints)
        told.append(f"{folder}: not whole ({found}); set aside as {target}")
    return told
