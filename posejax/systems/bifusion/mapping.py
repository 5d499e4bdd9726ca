"""What `python -m posejax map` does: RGB-D frames with poses become a labelled map."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
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
    no_such,
)
from posejax.data.cameras import PixelConvention
from posejax.data.errors import DataError
from posejax.nn.clip import Activation
from posejax.report.skeleton import jsonable
from posejax.systems.bifusion.data import OwnFrames, ScanNet
from posejax.systems.bifusion.frames import FrameSource, RecordedFrames, RgbdFrames
from posejax.systems.bifusion.map_report import make_map_report, map_points, write_map
from posejax.systems.bifusion.online import Mapper, OnlineConfig
from posejax.systems.bifusion.query import (
    Query,
    prototypes,
    read_query,
    similarities,
    text_query,
)
from posejax.systems.bifusion.system import Bifusion
from posejax.systems.bifusion.walk import Walk, scores, walk
from posejax.train import groups, rundir, runtime, weights
from posejax.train.system import Batch


@dataclass(frozen=True)
class MapOptions:
    """Merge the frames of recordings by their poses into maps of labelled voxels, a map each.

    Writes FOLDER/NAME/map.ply, index.html with the map to be turned, and FOLDER/figures.json.

    Attributes:
      recording: folder of RGB-D frames with poses, in 7-Scenes' names or those of ScanNet's
        exporter; by default recordings of the weights' own data. Of that data's options, it
        obeys size, points, classes and farthest.
      every: takes every so many-th of its frames; 1 if not given.
      pixels: convention of its intrinsics; opencv if not given.
      table: scannetv2-labels.combined.tsv, if its label pictures have raw numbers; by default the
        table of the weights' own data, if that is ScanNet.
      split: of the weights' own data; test, or what it has instead, if not given.
      recordings: how many of the split; 1 if not given.
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
    every: int | None = None
    pixels: PixelConvention | None = None
    table: Path | None = None
    split: str | None = None
    recordings: int | None = None
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
    system, split = told(experiment.system, options)
    run_folder = Path(source) if Path(source).is_dir() else Path("runs") / Path(source).stem
    out = options.out or run_folder / "map"
    rundir.check_writable(out, "--out")
    runtime.start(RunOptions(None, options.cache, debug=Debug(), distributed=Distributed()))
    query = _query(system, options)
    check_fits(system, params, state)
    frames = system.data.source(split)
    _say_of(frames)
    size = system.model.points.voxel_size
    mapper = Mapper(system, params, state, options.online, size)
    rundir.make(out, "--out")
    figures, tables = {}, {}
    for number in np.unique(frames.sequence)[: options.recordings or 1]:
        rows, name = np.flatnonzero(frames.sequence == number), frames.recording(number)
        print(f"{name}: {len(rows):,} frames", file=sys.stderr, flush=True)
        done = walk(mapper, frames, rows.tolist(), name, len(system.classes))
        page = _write(out / name, done, system, mapper.config, query)
        figures[name] = done.figures
        tables = {k: v + tables.get(k, 0) for k, v in done.confusion.items()}
        print(evaluate.table(done.figures, name))
        print(f"report: {page}")
    everything = scores(tables)
    if len(figures) > 1:
        print(evaluate.table(everything, f"all {len(figures)} recordings"))
    written = jsonable({"recordings": figures, "all": everything})
    config_io.write_json(out / "figures.json", written)
    print(f"results: {out}")


def _write(
    folder: Path, done: Walk, system: Bifusion, config: OnlineConfig, query: Query | None
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


def _query(system: Bifusion, options: MapOptions) -> Query | None:
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


def told(system: Bifusion, options: MapOptions) -> tuple[Bifusion, str]:
    """The system with the data that is to be mapped, and which split of it.

    Raises:
      ConfigError: options that contradict one another, or the system.
    """
    data = system.data
    idle, why = ("split", "recordings"), "a --recording is one, and has no splits"
    if options.recording is None:
        idle, why = ("every", "pixels", "table"), "it is for a --recording; there is none"
    for name in idle:
        if (value := getattr(options, name)) is not None:
            raise ConfigError(f"--{name} {value}: {why}")
    if options.recording is not None:
        data = _own(data, options.recording, options)
        system = dataclasses.replace(system, data=data)
    system.check()
    options.online.check()
    if options.recordings is not None:
        check_range("--recordings", options.recordings, 1)
    if system.baseline != "none":
        raise ConfigError(f"--system.baseline {system.baseline}: it has no features to map")
    if options.online.weight == "gate" and system.model.mode == "points":
        raise ConfigError("--weight gate: without an image (--model.mode points) all weights are 0")
    split = options.split or ("test" if "test" in data.splits else data.splits[-1])
    if split not in data.splits:
        raise ConfigError(f"--split: {no_such(split, data.splits, 'there are')}")
    return system, split


def _own(data: RgbdFrames, folder: Path, options: MapOptions) -> OwnFrames:
    """The frames of a folder, brought to what the network learnt from."""
    table = str(options.table or (data.table if isinstance(data, ScanNet) else ""))
    every = 1 if options.every is None else options.every
    check_range("--every", every, 1)
    return OwnFrames(
        folder=str(folder),
        pixels=options.pixels or "opencv",
        table=table,
        every=every,
        size=data.size,
        points=data.points,
        classes=data.classes,
        farthest=data.farthest,
    )


def check_fits(system: Bifusion, params: Any, state: Any) -> None:
    """Raise ConfigError unless the weights are those of this very network.

    A part of them would do for a branch alone, but its head never learnt to be alone.
    """
    need = jax.eval_shape(lambda key: system.init(key, Batch({})), jax.random.key(0))
    for what, there, asked in zip(("parameters", "state"), (params, state), need, strict=True):
        have, want = ({k: v.shape for k, v in groups.flatten(t).items()} for t in (there, asked))
        if wrong := [k for k in sorted(have | want) if have.get(k) != want.get(k)]:
            first = wrong[0]
            shapes = f"{have.get(first, 'nothing')} for {want.get(first, 'nothing')}"
            raise ConfigError(
                f"the weights' {what} are not this network's: {shapes}, {weights.few(wrong)}; "
                "leave --model and --data.classes as they were trained"
            )


def _say_of(frames: FrameSource) -> None:
    """What people should know of the frames that were found."""
    if not isinstance(frames, RecordedFrames):
        return
    if isinstance(given := frames.files[0].intrinsics, tuple):
        text = f"no camera-intrinsics.txt: those of 7-Scenes are taken, {given}"
        print(text, file=sys.stderr, flush=True)
    if frames.skipped:
        name, why = frames.skipped[0]
        text = f"{len(frames.skipped)} frames are left out: {name}: {why}"
        print(text, file=sys.stderr, flush=True)
