"""What `python -m posejax map` does: RGB-D frames with poses become a labelled map."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from posejax import config_io, evaluate, report
from posejax.config import (
    ConfigError,
    Debug,
    Distributed,
    Experiment,
    RunOptions,
    check_range,
)
from posejax.data.errors import DataError
from posejax.data.rgbd_frames import has_frames, list_frames
from posejax.nn.clip import Activation
from posejax.report.skeleton import jsonable
from posejax.systems.bifusion.data import up_of
from posejax.systems.bifusion.frames import FrameSource, RecordedFrames, Recording
from posejax.systems.bifusion.map_report import make_map_report, map_points, write_map
from posejax.systems.bifusion.online import Mapper, OnlineConfig
from posejax.systems.bifusion.query import (
    Query,
    prototypes,
    read_query,
    similarities,
    text_query,
)
from posejax.systems.bifusion.walk import Walk, scores, walk
from posejax.train import rundir, runtime, weights


@dataclass(frozen=True)
class MapOptions:
    """Merge the frames of recordings by their poses into maps of labelled voxels, a map each.

    Writes FOLDER/NAME/map.ply, index.html with the map to be turned, and FOLDER/figures.json.

    Attributes:
      recording: folder of RGB-D frames with poses, in 7-Scenes' names or those of ScanNet's
        exporter; by default recordings of the weights' own data.
      split: of that data.
      recordings: how many of the split.
      which: best, latest or a step of a run folder.
      out: folder of the results; RUN/map if not given.
      query: .npy or .npz of embeddings to look for in the map, see docs/bifusion.md; FOLDER/NAME
        has a classes.npz of them for other maps.
      text: what to look for in words, several of them; needs --clip and --vocabulary.
      clip: CLIP's checkpoint, of OpenAI or open_clip, with its text tower.
      vocabulary: CLIP's bpe_simple_vocab_16e6.txt.gz, which comes with either's package.
      activation: of the text tower, if its checkpoint does not say.
      online: how frames are merged.
      cache: folder of compiled programs: auto for the user's cache folder, off for none.
    """

    recording: Path | None = None
    split: str = "test"
    recordings: int = 1
    which: str = "best"
    out: Path | None = None
    query: Path | None = None
    text: tuple[str, ...] = ()
    clip: Path | None = None
    vocabulary: Path | None = None
    activation: Activation | None = None
    online: Annotated[OnlineConfig, tyro.conf.arg(name="")] = OnlineConfig()
    cache: str = "auto"


def run(source: str, params: Any, state: Any, experiment: Experiment, options: MapOptions) -> None:
    """Map recordings and write everything.

    Args:
      source: where the weights are from.
      params, state: them.
      experiment: theirs, its system a `Bifusion`.
      options: what to map, and how.

    Raises:
      ConfigError: settings out of range; DataError: files that cannot be read.
    """
    system: Any = experiment.system
    options.online.check()
    check_range("--recordings", options.recordings, 1)
    run_folder = Path(source) if Path(source).is_dir() else Path("runs") / Path(source).stem
    out = options.out or run_folder / "map"
    rundir.check_writable(out, "--out")
    runtime.start(RunOptions(None, options.cache, debug=Debug(), distributed=Distributed()))
    query = _query(system, options)
    frames = _frames(system, options)
    size = system.model.points.voxel_size
    mapper = Mapper(system, params, state, options.online, size)
    rundir.make(out, "--out")
    figures, tables = {}, {}
    for name, rows in _recordings(frames, options.recordings):
        print(f"{name}: {len(rows):,} frames", file=sys.stderr, flush=True)
        done = walk(mapper, frames, rows, name, len(system.classes))
        page = _write(out / name, done, system, mapper.config, query)
        figures[name] = done.figures
        tables = {k: v + tables.get(k, 0) for k, v in done.confusion.items()}
        print(evaluate.table(done.figures, name))
        print(f"report: {page}")
    if len(figures) > 1:
        figures["all"] = scores(tables)
        print(evaluate.table(figures["all"], f"all {len(figures) - 1} recordings"))
    config_io.write_json(out / "figures.json", jsonable(figures))
    print(f"results: {out}")


def _write(
    folder: Path, done: Walk, system: Any, config: OnlineConfig, query: Query | None
) -> Path:
    """All files of a map; the path of its page."""
    classes = system.classes
    points, more = map_points(done, classes)
    done.figures |= more
    similar = {} if query is None else similarities(query, points.fused, points.chance)
    write_map(folder / "map.ply", points, classes, similar)
    features = prototypes(points.fused, points.chance).astype(np.float32)
    examples = {"query": features, "names": np.array(classes)}
    weights.write_npz(folder / "classes.npz", examples)
    return report.write(make_map_report(done, points, system.data, config, similar), folder)


def _query(system: Any, options: MapOptions) -> Query | None:
    """What is looked for, if anything is."""
    if options.text and options.query is not None:
        raise ConfigError("--text: there is a --query already; one of them")
    if options.query is not None:
        return read_query(options.query, system.model.features, len(system.classes))
    if not options.text:
        return None
    if len(set(options.text)) < len(options.text):
        raise ConfigError("--text: a sentence twice")
    if options.clip is None or options.vocabulary is None:
        raise ConfigError("--text: needs --clip FILE and --vocabulary FILE")
    try:
        return text_query(
            options.text, system.classes, options.clip, options.vocabulary, options.activation
        )
    except DataError:
        raise
    except ValueError as error:
        raise ConfigError(f"--clip: {error}") from error


def _frames(system: Any, options: MapOptions) -> FrameSource:
    """Frames of the folder, or of the split."""
    folder, data = options.recording, system.data
    if folder is None:
        system.check()
        return data.source(options.split)
    if not folder.is_dir() or not has_frames(folder):
        expected = "frame-*.color.jpg (7-Scenes' names) or color/*.jpg (the ScanNet exporter's)"
        raise DataError(folder, "frames", "none", expected)
    files = list_frames(folder)
    recording = Recording(folder.resolve().name, files, up_of(files))
    return RecordedFrames(data, [recording], getattr(data, "pixels", "opencv"))


def _recordings(frames: FrameSource, count: int) -> Iterator[tuple[str, list[int]]]:
    """Names and rows of the first recordings."""
    for number in np.unique(frames.sequence)[:count]:
        rows = np.flatnonzero(frames.sequence == number).tolist()
        yield Path(frames.describe(rows[0])).parts[0], rows
