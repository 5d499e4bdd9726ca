"""One damaged file read once, and what came of it: a function of (case, seed, index)."""

import os
import shutil
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import BROKEN, CASES


class Bench:
    """Valid files of one case in a folder, damaged and read again and again."""

    def __init__(self, name: str, seed: int, folder: Path, real: bool = True):
        self.name, self.seed, self.case = name, seed, (CASES | BROKEN)[name]
        self.folder = folder
        (folder / "written").mkdir(parents=True)
        paths = [self.case.write(folder / "written")]
        if real and (copied := _copy_real(self.case.real, folder / "real")):
            paths.append(copied)
        self.samples = [(path, path.read_bytes()) for path in paths]
        for path, _ in self.samples:
            self.case.read(path)  # the originals are valid

    def _names(self, error: DataError) -> bool:
        return str(self.folder) in error.file and bool(error.field and error.found)

    def run(self, index: int) -> tuple[str, str]:
        """("valid" | "refused" | "memory" | "other", message) of mutation `index`.

        "memory" is a refusal because the memory did not suffice: a claim that was believed.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), index])
        path, raw = self.samples[index % len(self.samples)]
        path.write_bytes(mutate(raw, rng, path.suffix))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", category=RuntimeWarning, module="posejax")
                self.case.read(path)
        except self.case.refusals as error:
            if any(isinstance(e, MemoryError) for e in _causes(error)):
                return "memory", _first_line(error)
            if isinstance(error, DataError) and not self._names(error):
                return "other", f"an error without file, field or finding: {_first_line(error)}"
            return "refused", _first_line(error)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            return "other", f"{type(error).__name__} at {where}: {_first_line(error)}"
        finally:
            path.write_bytes(raw)
        return "valid", ""


def _causes(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0][:200]


def _copy_real(patterns: tuple[str, ...], folder: Path) -> Path | None:
    """The first of the files, copied with the others into `folder`; None if one is not there."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("POSEJAX_DATA", default))
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))[:1]]
    if not found or len(found) < len(patterns):
        return None
    copies = []
    for path in found:
        copies.append(folder / path.relative_to(root))
        copies[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copies[-1])
    return copies[0]
