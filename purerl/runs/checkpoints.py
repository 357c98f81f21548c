"""Save the whole carry of a run on disk, so that the run can resume as if it had never stopped.

A checkpoint is a folder that Orbax writes completely or not at all. Its label is written last, and a checkpoint without
a label does not count. The label says which run the checkpoint belongs to. It also holds the digest of every file, so
that damage is found before the checkpoint is read. The structure of the carry comes from the program. Nothing in a
checkpoint is ever executed.

A checkpoint is damaged only if a file differs from what was written. An undamaged checkpoint whose carry does not match
that of the program is a `Misfit`. It is refused, and no file is deleted, truncated or written.

The arrays are in one file. It begins with their names and dtypes, a `[N, 2]` array of texts (up to version 0.1.0 only
the names, `[N]`). The arrays follow one after another as `numpy.save` writes them, the part of each device by itself.
Reading maps the file into memory. Neither writing nor reading allocates a copy of a replay buffer. A dtype that NumPy's
format cannot name, for example bfloat16, is written as bytes (`V2`). A random key is written as its data.

Orbax's own handlers are not used, because they make the process grow. They write with TensorStore, which keeps about
0.1 MiB of JSON in the process at every save (tensorstore 0.1.86). Some of their copies also stay in the heap of every
thread that Orbax saves with. So a run grows by an eighth until every thread has saved.
"""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree, Shaped

from purerl.errors import Refused
from purerl.results.run_folder import write
from purerl.runs import fingerprint
from purerl.runs.fingerprint import Fingerprint
from purerl.runs.provenance import changed, commit, flags, origin
from purerl.settings.config import RECORD, differences, read_toml
from purerl.training.loop import Carry
from purerl.types import Array

LABEL = "label.json"
ARRAYS = "arrays.npy"
LENGTH = ("total_steps", "num_evals")  # the settings that change if a run is made longer
LENGTHS = "earlier_lengths"  # where run.toml records their earlier values
REPLACED = ".replaced"  # suffix of a checkpoint that is being replaced by a new one


Label = dict[str, Any]  # the contents of label.json
Computation = dict[str, Any]  # from `config.computation`
AnyArray = Shaped[Array | np.ndarray, "..."]


class Damaged(Exception):
    """A file of a checkpoint differs from what was written."""


class Misfit(Refused):
    """A checkpoint is undamaged, but its carry does not match that of this program."""


class Leaf(NamedTuple):
    """How an array of a carry is stored.

    Attributes:
        dtype: its dtype in JAX, for example `bfloat16` or `key<fry>`; None if an older version stored no dtypes.
        shape: the shape of the stored array; for a random key, that of its data.
        stored: the NumPy dtype of the stored array.
    """

    dtype: str | None
    shape: tuple[int, ...]
    stored: np.dtype[Any]

    def __str__(self) -> str:
        """Return a text such as `float32[3, 2]`."""
        is_key = self.dtype is not None and self.dtype.startswith("key<")
        return f"{self.dtype or self.stored}{list(self.shape[:-1] if is_key else self.shape)}"

    def holds(self, other: "Leaf") -> bool:
        """Return whether this leaf, found in a checkpoint, can be read as `other`.

        Bytes without a stored JAX dtype can be read as any dtype of their size.
        """
        if self.dtype is None:
            size = self.stored.kind == "V" and self.stored.itemsize == other.stored.itemsize
            return self.shape == other.shape and (size or self.stored == other.stored)
        same = self.stored.itemsize == other.stored.itemsize
        return self.shape == other.shape and self.dtype == other.dtype and same


class ArraysHandler(ocp.CheckpointHandler):
    """Let Orbax write `{name: array}` as one file."""

    def save(self, directory: PurePath, args: "Arrays") -> None:
        with open(directory / ARRAYS, "wb") as file:
            named = [(name, args.dtypes[name]) for name in args.arrays] if args.dtypes else list(args.arrays)
            np.save(file, np.array(named))
            for array in args.arrays.values():
                _append(file, array, len(array) if args.runs is None else args.runs)

    def restore(self, directory: PurePath, args: "Arrays") -> dict[str, np.ndarray]:
        return read_arrays(directory / ARRAYS)[0]


@ocp.args.register_with_handler(ArraysHandler, for_save=True, for_restore=True)
@dataclass
class Arrays(ocp.args.CheckpointArgs):
    """The arrays to write: the first `runs` rows of each. Reading needs no values.

    `dtypes` is `{name: dtype in JAX}`. It is empty if an older version stored no dtypes.
    """

    arrays: dict[str, AnyArray]
    runs: int | None = None
    dtypes: dict[str, str] = field(default_factory=dict)


def manager(path: Path | str) -> ocp.CheckpointManager:
    """Return the Orbax manager that writes and reads the checkpoints of the run in `path`."""
    here, several = jax.process_index(), jax.process_count() > 1  # Each process saves only its own runs.
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


def size(carry: Carry, runs: int) -> int:
    """Return the size in bytes of a checkpoint of the first `runs` rows of `carry`."""
    return sum(x.nbytes // len(x) * runs for x in (_data(x) for _, x in named(carry) if x.size))


def save(
    checkpoints: ocp.CheckpointManager,
    number: int,
    carry: Carry,
    runs: int,
    computation: Computation,
    keep: int,
    family: Container[int] | None = None,
    **facts: Any,
) -> None:
    """Write the first `runs` rows of `carry` as checkpoint `number` of the run with the `computation` of `config`.

    The ring (the replay buffer) of `carry` may be None. `facts` are added to the label: `progress`, `{name: number}`,
    is the position in the run, and `environment` is the environment's fingerprint. Afterwards this checkpoint and the
    `keep - 1` newest others of its `family` remain: the numbers of its group, all by default. An older
    checkpoint with the same number is kept until this one is complete.
    """
    kept = {name: _data(x) for name, x in named(carry) if x.size}
    arrays = Arrays(kept, runs, {name: str(x.dtype) for name, x in named(carry) if x.size})
    made = {
        "computation": computation,
        "versions": origin(len(carry.diverged.devices())),
        "commit": commit(),
        "ring": carry.ring is not None,
    }
    folder = _write(checkpoints, number, arrays, made | facts)
    others = [other for other in numbers(folder.parent.parent) if other != number and (not family or other in family)]
    for old in others[keep - 1 :]:
        delete(checkpoints, old)


def fork(source: Path, target: Path, number: int, rows: Sequence[int], computations: Sequence[Computation]) -> None:
    """Write checkpoint `number` of the run in `target`: the given `rows` of the same checkpoint of the run in `source`.

    `computations` are those of `source` and `target`. Raises Damaged.
    """
    found = verify(source, number, computations[0])
    whole, leaves = read_arrays(_file(_folder(source) / str(number)))
    dtypes = {name: leaf.dtype for name, leaf in leaves.items() if leaf.dtype}
    arrays = Arrays({name: array[rows] for name, array in whole.items()}, None, dtypes)
    facts = {name: x for name, x in found.items() if name not in ("files", "label")}
    _write(manager(target), number, arrays, facts | {"computation": computations[1]})


def _write(checkpoints: ocp.CheckpointManager, number: int, arrays: Arrays, facts: Label) -> Path:
    """Write the arrays, and then the label with `facts`. Returns the folder of the checkpoint.

    An older checkpoint with the same number is kept until the new one is complete.
    """
    folder = Path(checkpoints.directory) / str(number)
    before = folder.with_name(f"{number}{REPLACED}")
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
        checkpoints.reload()
    try:
        checkpoints.save(number, args=arrays, force=True)
        files = {str(file.relative_to(folder)): _digest(file) for file in folder.rglob("*") if file.is_file()}
        facts = facts | {"files": files}
        write(folder, LABEL, json.dumps(facts | {"label": _digest_of_label(facts)}))
    except OSError:  # Delete what was written: it would fill the disk.
        for part in (folder, *folder.parent.glob(f"{number}.orbax-checkpoint-tmp*")):
            shutil.rmtree(part, ignore_errors=True)
        _put_back(before)
        raise
    shutil.rmtree(before, ignore_errors=True)
    return folder


def _put_back(before: Path) -> None:
    """Restore a checkpoint that was to be replaced, if the new one was not completed."""
    folder = before.with_name(before.name.removesuffix(REPLACED))
    if before.exists() and not (folder / LABEL).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def numbers(path: Path | str) -> list[int]:
    """Return the checkpoints in the run folder `path`, newest first. Raises OSError if they cannot be listed."""
    try:
        found = [file.name for file in _folder(path).iterdir()]
    except FileNotFoundError:
        return []
    return sorted((int(name) for name in found if name.isdecimal() and name.isascii()), reverse=True)


def read_label(path: Path | str, number: int, computation: Computation) -> Label:
    """Return the label of a checkpoint.

    Raises Damaged, ValueError if another computation wrote it, Misfit if the label lacks a required entry, and OSError
    if it cannot be read now.
    """
    try:
        found = json.loads((_folder(path) / str(number) / LABEL).read_bytes())
        whole = found["label"] == _digest_of_label(found)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"its label cannot be read: {error}") from error
    if not whole:
        raise Damaged("its label differs from what was written")
    if lacking := [name for name in ("computation", "versions", "ring", "files") if name not in found]:
        raise _misfit(path, number, found, [f"its label has no {lacking[0]!r}"])
    if differs := differences(_lengthened(path, found["computation"], computation), computation):
        raise ValueError(f"checkpoint {number} of {path} is of another run: {differs}; run.toml may have been changed")
    return found


def _lengthened(path: Path | str, then: Computation, now: Computation) -> Computation:
    """Return the computation `then` of a checkpoint, with the length of `now` if the run had that of `then` earlier.

    A run that was made longer has checkpoints of its earlier lengths.
    """
    try:
        run = read_toml(Path(path) / "run.toml")
    except ValueError:
        return then
    lengths = [[run.get(name) for name in LENGTH], *run.get(RECORD, {}).get(LENGTHS, [])]
    longer = {name: now[name] for name in LENGTH if name in now}
    return then | longer if [then.get(name) for name in LENGTH] in lengths else then


def verify(path: Path | str, number: int, computation: Computation) -> Label:
    """Return the label of a checkpoint and check all of its files. Raises the same errors as `read_label`."""
    found = read_label(path, number, computation)
    _check(_folder(path) / str(number), found)
    return found


def restore(checkpoints: ocp.CheckpointManager, number: int, like: Carry, label: Label) -> Carry:
    """Return the carry of checkpoint `number`.

    The arrays are NumPy arrays that stay on disk until they are used, except random keys. `like` is an abstract carry,
    with a ring if `label` says so. Raises Damaged if a file differs from what was written, Misfit if the carry does not
    match `like`, and OSError if reading fails.
    """
    path = Path(checkpoints.directory).parent
    _check(_folder(path) / str(number), label)
    arrays = fitting(path, number, like, label)
    leaves = [_leaf(arrays.get(name), x) for name, x in named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def check_newest(
    path: Path,
    numbers: Iterable[int],
    computation: Computation,
    like: Callable[[bool], Carry],
    environment: Fingerprint | None = None,
) -> None:
    """Raise Misfit if the newest undamaged checkpoint of `numbers` does not match `like(ring)`. No array is read.

    `environment` is the fingerprint of this program's environment.
    """
    for number in numbers:
        with suppress(Damaged):
            found = read_label(path, number, computation)
            fitting(path, number, like(found["ring"]), found, environment)
            return


def set_aside(path: Path, names: Iterable[str]) -> list[str]:
    """Copy the files `names` of the run folder `path`, if they exist. Returns the names of the copies."""
    stamp, copies = datetime.now().strftime("%Y%m%d-%H%M%S-%f"), []
    for file in (path / name for name in names):
        if file.is_file():
            first = Path(file.relative_to(path).parts[0])  # Not in policy/, which holds the policies of groups.
            copies.append(path / f"{first.stem}-before-{stamp}{file.suffix}")
            shutil.copy2(file, copies[-1])
    return [copy.name for copy in copies]


def fitting(
    path: Path, number: int, like: Carry, label: Label, environment: Fingerprint | None = None
) -> dict[str, np.ndarray]:
    """Return `{name: array}` of checkpoint `number` of the run in `path`, if it matches `like`.

    The arrays stay on disk. Raises Misfit if they do not match, Damaged if a damaged file is the reason, and OSError if
    a file cannot be read.
    """
    folder = _folder(path) / str(number)
    try:
        arrays, found = read_arrays(_file(folder))
        differing = _differing(found, {name: _kept(x) for name, x in named(like) if x.size})
        if not differing:
            return arrays
    except OSError:
        raise
    except Exception as error:  # NumPy raises many kinds of errors for bytes that are no array.
        _check(folder, label)
        if isinstance(error, MemoryError):
            raise
        differing = [f"{ARRAYS} cannot be read ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]})"]
    _check(folder, label)
    raise _misfit(path, number, label, differing, environment)


def _differing(found: dict[str, Leaf], expected: dict[str, Leaf]) -> list[str]:
    """Return the differences of two `{name: Leaf}`, such as `["x is absent there and float32[3] here"]`."""
    return [
        f"{name} is {found.get(name, 'absent')} there and {expected.get(name, 'absent')} here"
        for name in expected | found
        if name not in expected or name not in found or not found[name].holds(expected[name])
    ]


def _misfit(
    path: Path | str, number: int, label: Label, differing: list[str], environment: Fingerprint | None = None
) -> Misfit:
    """Return the error that says how a checkpoint differs from this program, and what to do."""
    shown = differing[:3] + ([f"and {len(differing) - 3} more"] if len(differing) > 3 else [])
    then, now = label.get("versions", {}), origin(None)
    others = changed({name: x for name, x in then.items() if name != "devices"}, now)
    since = [f"since then {', '.join(others)}" if others else "the versions are the same"]
    if environment and label.get("environment"):
        since += filter(None, [fingerprint.difference(label["environment"], environment, "then")])
    return Misfit(
        f"checkpoint {number} of {path} is undamaged but does not fit this program: {', '.join(shown)}; "
        f"{'; '.join(since)}; nothing was changed in the folder; resume with {_writer(path, label)}, "
        "or name another folder with --out"
    )


def _writer(path: Path | str, label: Label) -> str:
    """Return a text that names the version and the commit that wrote a checkpoint.

    An older version stored no commit in the label. Then the commit is that of run.toml.
    """
    try:
        made = read_toml(Path(path) / "run.toml").get(RECORD, {}) | label
    except ValueError:
        made = label
    version = made.get("versions", {}).get("purerl", "?")
    flag = made.get("flags", {}).get("jax_default_prng_impl", "threefry2x32")
    also = "" if flag == flags()["jax_default_prng_impl"] else f", JAX_DEFAULT_PRNG_IMPL={flag}"
    wrote = made.get("commit", "unknown")
    return f"the code that wrote it (purerl {version}, commit {wrote}{also}, its environment and its algorithm)"


def _append(file: io.BufferedWriter, array: AnyArray, runs: int) -> None:
    """Write the first `runs` rows of an array as `numpy.save` does, part by part if several devices hold it."""
    descr = array.dtype.str if array.dtype.isbuiltin == 1 else f"|V{array.dtype.itemsize}"
    header = {"descr": descr, "fortran_order": False, "shape": (runs, *array.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)
    parts = [array]
    if isinstance(array, jax.Array):
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        parts = (shard.data for shard in shards)
    for part in parts:
        rows = np.ascontiguousarray(np.asarray(part)[:runs])
        runs -= len(rows)
        file.write(rows.reshape(-1).view(np.uint8).data)


def read_arrays(file: Path | PurePath) -> tuple[dict[str, np.ndarray], dict[str, Leaf]]:
    """Return `({name: array}, {name: Leaf})` of a file that `ArraysHandler` wrote. The arrays are mapped from it."""
    with open(file, "rb") as opened:
        named = np.lib.format.read_array(opened, allow_pickle=False)
        dtypes = dict(named.tolist() if named.ndim == 2 else ((name, None) for name in named.tolist()))
        arrays = {name: _map(opened) for name in dtypes}
    return arrays, {name: Leaf(dtype, arrays[name].shape, arrays[name].dtype) for name, dtype in dtypes.items()}


def arrays_of(path: Path | str, number: int) -> dict[str, np.ndarray]:
    """Return `{name: array}` of a checkpoint that was verified. The arrays stay on disk until they are used."""
    return read_arrays(_file(_folder(path) / str(number)))[0]


def _map(file: BinaryIO) -> np.ndarray:
    """Return the next array in an open file, mapped, and move to the end of that array."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    array = np.memmap(file, dtype, "r", offset, shape)
    file.seek(offset + array.nbytes)
    return array


def _file(folder: Path) -> Path:
    """Return the file of arrays in the folder of a checkpoint. Raises ValueError if there is none."""
    file = next(folder.rglob(ARRAYS), None)
    if file is None:
        raise ValueError(f"there is no {ARRAYS}")
    return file


def _check(folder: Path, label: Label) -> None:
    """Raise Damaged if a file differs from what was written, and OSError if a file cannot be read."""
    for name, digest in label["files"].items():
        try:
            whole = _digest(folder / name) == digest
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            whole = False
        if not whole:
            raise Damaged(f"{name} differs from what was written")


def delete(checkpoints: ocp.CheckpointManager, number: int) -> None:
    folder = Path(checkpoints.directory) / str(number)
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
    checkpoints.reload()


def _folder(path: Path | str) -> Path:
    return (Path(path) / "checkpoints").absolute()


def named(tree: PyTree) -> list[tuple[str, Any]]:
    """Return `[(name, leaf)]`, named by path. Leaves with the same name are numbered from the second on."""
    leaves = [(jax.tree_util.keystr(path), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]
    seen: Counter[str] = Counter()
    for i, (name, x) in enumerate(leaves):
        seen[name] += 1
        leaves[i] = (name if seen[name] == 1 else f"{name} #{seen[name]}", x)
    return leaves


def _data(x: AnyArray) -> AnyArray:
    """Return the array that is written for a leaf. For a random key, this is its data."""
    return jax.random.key_data(x) if _is_key(x) else x


def _kept(x: jax.ShapeDtypeStruct) -> Leaf:
    """Return the `Leaf` of an abstract array."""
    data = jax.eval_shape(_data, x)
    return Leaf(str(x.dtype), data.shape, np.dtype(data.dtype))


def _leaf(array: np.ndarray | None, like: jax.ShapeDtypeStruct) -> AnyArray:
    """Return an array of a checkpoint with the dtype of `like`. Empty arrays are not stored: then `array` is None."""
    if array is None:
        array = np.zeros(*_kept(like)[1:])
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_implementation(like))
    return array if array.dtype == like.dtype else array.view(like.dtype)


def _implementation(like: jax.ShapeDtypeStruct) -> Any:
    """Return the random number generator of an abstract key. JAX reports it only for a traced key."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]


def _is_key(x: AnyArray | jax.ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()


def _digest_of_label(label: Label) -> str:
    rest = {name: value for name, value in label.items() if name != "label"}
    return hashlib.blake2b(json.dumps(rest, sort_keys=True).encode()).hexdigest()
