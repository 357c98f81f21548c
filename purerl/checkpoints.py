"""The whole carry of a run on disk, so that it goes on as if it had never stopped.

A checkpoint is a folder that Orbax writes whole or not at all, and then its label, without which it does not count:
what run it is of, and the digest of every file, so that a damaged one is told before it is read. The structure of the
carry comes from the program; nothing in a checkpoint is ever executed.

The arrays are one file, one after another as `numpy.save` writes them, each device's part by itself, and are read where
they lie: neither takes memory for a copy of a replay buffer. Orbax's own handlers write by TensorStore, of whose JSON
about 0.1 MiB stays in the process at every save (tensorstore 0.1.86); and of copies some stays in the heap of every
thread that Orbax saves by, so that a run grows by an eighth until all threads had one.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from purerl.config import differences
from purerl.record import origin
from purerl.results import write

LABEL = "label.json"
ARRAYS = "arrays.npy"
REPLACED = ".replaced"  # ends the name of a checkpoint while another one of its number is written


class Damaged(Exception):
    """A checkpoint that is not as it was written."""


class ArraysHandler(ocp.CheckpointHandler):
    """Lets Orbax write `{name: array}` as one file."""

    def save(self, directory, args):
        with open(directory / ARRAYS, "wb") as file:
            np.save(file, np.array(list(args.arrays)))
            for array in args.arrays.values():
                _append(file, array, len(array) if args.runs is None else args.runs)

    def restore(self, directory, args):
        return _read(directory / ARRAYS)


@ocp.args.register_with_handler(ArraysHandler, for_save=True, for_restore=True)
@dataclass
class Arrays(ocp.args.CheckpointArgs):
    """What is to be written, the first `runs` rows of each array; to be read, nothing need be said."""

    arrays: dict
    runs: int | None = None


def manager(path):
    """Writes and reads the checkpoints of the run in `path`."""
    here, several = jax.process_index(), jax.process_count() > 1  # Every process keeps its own runs, and asks no other.
    alone = ocp.options.MultiprocessingOptions(here, {here}, f"process-{here}")
    options = ocp.CheckpointManagerOptions(
        create=False,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        multiprocessing_options=alone if several else ocp.options.MultiprocessingOptions(),
    )
    _folder(path).mkdir(parents=True, exist_ok=True)
    for before in _folder(path).glob(f"*{REPLACED}"):
        _put_back(before)
    return ocp.CheckpointManager(_folder(path), options=options)


def size(carry, runs):
    """The bytes that a checkpoint of the first `runs` rows of `carry` takes."""
    return sum(x.nbytes // len(x) * runs for x in _arrays(carry).values())


def save(checkpoints, number, carry, runs, computation, keep, progress=None):
    """Write the first `runs` rows of `carry` as checkpoint `number` of what `computation` (of config) describes.

    The ring of `carry` may be None. `progress`, `{name: number}`, says where in the run it was made. Afterwards it
    stays, with `keep - 1` others. Of one with the same number that was there before nothing is lost until this one is
    whole.
    """
    arrays = Arrays(_arrays(carry), runs)
    made = origin(len(carry.diverged.devices()))
    folder = _write(checkpoints, number, arrays, computation, made, carry.ring is not None, progress)
    others = [other for other in numbers(folder.parent.parent) if other != number]
    for old in others[keep - 1 :]:
        delete(checkpoints, old)


def fork(source, target, number, rows, computations):
    """Make checkpoint `number` of the run in the folder `target` of some `rows` of the one of `source`.

    `computations` are those of both. Raises Damaged.
    """
    found = verify(source, number, computations[0])
    whole = _read(next((_folder(source) / str(number)).rglob(ARRAYS)))
    arrays = Arrays({name: array[rows] for name, array in whole.items()})
    _write(manager(target), number, arrays, computations[1], found["versions"], found["ring"], found.get("progress"))


def _write(checkpoints, number, arrays, computation, versions, ring, progress):
    """Returns the folder of the checkpoint. One of that number stays until the new one is whole."""
    folder = Path(checkpoints.directory) / str(number)
    before = folder.with_name(f"{number}{REPLACED}")
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
        checkpoints.reload()
    try:
        checkpoints.save(number, args=arrays, force=True)
        files = {str(file.relative_to(folder)): _digest(file) for file in folder.rglob("*") if file.is_file()}
        label = {"computation": computation, "versions": versions, "ring": ring, "progress": progress, "files": files}
        write(folder, LABEL, json.dumps(label | {"label": _digest_of_label(label)}))
    except OSError:  # What was written would fill the disk.
        for part in (folder, *folder.parent.glob(f"{number}.orbax-checkpoint-tmp*")):
            shutil.rmtree(part, ignore_errors=True)
        _put_back(before)
        raise
    shutil.rmtree(before, ignore_errors=True)
    return folder


def _put_back(before):
    """Have a checkpoint again that a new one was to replace, where that one never became whole."""
    folder = before.with_name(before.name.removesuffix(REPLACED))
    if before.exists() and not (folder / LABEL).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def numbers(path):
    """The checkpoints in the run folder `path`, the newest first."""
    return sorted((int(file.name) for file in _folder(path).glob("[0-9]*") if file.name.isdecimal()), reverse=True)


def label(path, number, computation):
    """The label of a checkpoint. Raises Damaged, and ValueError where another computation wrote it."""
    try:
        found = json.loads((_folder(path) / str(number) / LABEL).read_bytes())
        whole = found["label"] == _digest_of_label(found)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"its label cannot be read: {error}") from error
    if not whole:
        raise Damaged("its label is not as it was written")
    if differs := differences(found["computation"], computation):
        raise ValueError(f"checkpoint {number} of {path} is of another run: {differs}; run.toml may have been changed")
    return found


def verify(path, number, computation):
    """The label of a checkpoint, all of whose files are as they were written. Raises as `label` does."""
    found = label(path, number, computation)
    _check(_folder(path) / str(number), found)
    return found


def restore(checkpoints, number, like, label):
    """The carry of checkpoint `number`, in NumPy but for its keys, and on the disk until it is asked for; `like` is an
    abstract one, with a ring where `label` says so.

    Raises Damaged where it is not as it was written, or not of this version, and OSError where it cannot be read.
    """
    folder = Path(checkpoints.directory) / str(number)
    _check(folder, label)
    expected = jax.eval_shape(_arrays, like)
    try:
        arrays = checkpoints.restore(number, args=Arrays({}))
    except (ValueError, KeyError, EOFError) as error:
        raise Damaged(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}") from error
    for name, x in expected.items():
        if name not in arrays:
            raise Damaged(f"it has no {name}")
        if (arrays[name].shape, arrays[name].dtype) != (x.shape, x.dtype):
            raise Damaged(f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, not {x.dtype}{list(x.shape)}")
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(structure, [_leaf(arrays, path, leaf) for path, leaf in leaves])


def _append(file, array, runs):
    """Write the first `runs` rows of an array as `numpy.save` does, part by part where it lies on several devices."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": (runs, *array.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)
    parts = [array]
    if isinstance(array, jax.Array):
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        parts = (shard.data for shard in shards)
    for part in parts:
        rows = np.ascontiguousarray(np.asarray(part)[:runs])
        runs -= len(rows)
        file.write(rows)


def _read(file):
    """`{name: array}` of a file that `ArraysHandler` wrote, as maps of the file."""
    with open(file, "rb") as opened:
        names = np.load(opened, allow_pickle=False)
        return {str(name): _map(opened) for name in names}


def _map(file):
    """The next array in an open file; afterwards it is at the one after."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    array = np.memmap(file, dtype, "r", offset, shape)
    file.seek(offset + array.nbytes)
    return array


def _check(folder, label):
    """Raises Damaged where a file is not as it was written."""
    for name, digest in label["files"].items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise Damaged(f"{name} is not as it was written")


def delete(checkpoints, number):
    shutil.rmtree(Path(checkpoints.directory) / str(number), ignore_errors=True)
    checkpoints.reload()


def _folder(path):
    return (Path(path) / "checkpoints").absolute()


def _arrays(carry):
    """`{path: array}`, random keys as their data. Orbax refuses empty arrays, which hold nothing to be kept."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    return {jax.tree_util.keystr(path): jax.random.key_data(x) if _is_key(x) else x for path, x in leaves if x.size}


def _leaf(arrays, path, like):
    if not like.size:
        return np.zeros(like.shape, like.dtype)
    array = arrays[jax.tree_util.keystr(path)]
    return jax.random.wrap_key_data(array) if _is_key(like) else array


def _is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _digest(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()


def _digest_of_label(label):
    rest = {name: value for name, value in label.items() if name != "label"}
    return hashlib.blake2b(json.dumps(rest, sort_keys=True).encode()).hexdigest()
