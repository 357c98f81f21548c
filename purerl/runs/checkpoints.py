"""The whole carry of a run on disk, so that it goes on as if it had never stopped.

A checkpoint is a folder that Orbax writes whole or not at all, and then its label, without which it does not count:
what run it is of, and the digest of every file, so that a damaged one is told before it is read. The structure of the
carry comes from the program; nothing in a checkpoint is ever executed.

Only what is not as it was written is damaged. A whole checkpoint that the program cannot go on from, because its carry
is another, is a `Misfit`: it is refused, and nothing is deleted, cut or written.

The arrays are one file: first their names and dtypes, `[N, 2]` texts (up to version 0.1.0 the names alone, `[N]`), then
one array after another as `numpy.save` writes them, each device's part by itself. They are read where they lie: neither
takes memory for a copy of a replay buffer. A dtype that NumPy's format cannot name, bfloat16 for example, is written as
bytes (`V2`), and a random key as its data. Orbax's own handlers write by TensorStore, of whose JSON
about 0.1 MiB stays in the process at every save (tensorstore 0.1.86); and of copies some stays in the heap of every
thread that Orbax saves by, so that a run grows by an eighth until all threads had one.
"""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
REPLACED = ".replaced"  # ends the name of a checkpoint while another one of its number is written


Label = dict[str, Any]  # what a checkpoint says of itself
Computation = dict[str, Any]  # of `config.computation`
AnyArray = Shaped[Array | np.ndarray, "..."]


class Damaged(Exception):
    """A checkpoint that is not as it was written."""


class Misfit(Refused):
    """A checkpoint that is as it was written, but of another carry than this program's."""


class Leaf(NamedTuple):
    """How an array of a carry is kept.

    Attributes:
        dtype: what it is called in JAX, for example `bfloat16` or `key<fry>`; None where an older version kept no name.
        shape: of what is written, of a key its data.
        stored: NumPy's dtype of that.
    """

    dtype: str | None
    shape: tuple[int, ...]
    stored: np.dtype[Any]

    def __str__(self) -> str:
        """As `float32[3, 2]`."""
        is_key = self.dtype is not None and self.dtype.startswith("key<")
        return f"{self.dtype or self.stored}{list(self.shape[:-1] if is_key else self.shape)}"

    def holds(self, other: "Leaf") -> bool:
        """Whether this, found in a checkpoint, can be read as `other`. Bytes without a name are what is asked for."""
        if self.dtype is None:
            size = self.stored.kind == "V" and self.stored.itemsize == other.stored.itemsize
            return self.shape == other.shape and (size or self.stored == other.stored)
        same = self.stored.itemsize == other.stored.itemsize
        return self.shape == other.shape and self.dtype == other.dtype and same


class ArraysHandler(ocp.CheckpointHandler):
    """Lets Orbax write `{name: array}` as one file."""

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
    """What is to be written, the first `runs` rows of each array; to be read, nothing need be said.

    `dtypes` are `{name: what it is called in JAX}`, empty where an older version did not keep them.
    """

    arrays: dict[str, AnyArray]
    runs: int | None = None
    dtypes: dict[str, str] = field(default_factory=dict)


def manager(path: Path | str) -> ocp.CheckpointManager:
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


def size(carry: Carry, runs: int) -> int:
    """The bytes that a checkpoint of the first `runs` rows of `carry` takes."""
    return sum(x.nbytes // len(x) * runs for x in (_data(x) for _, x in _named(carry) if x.size))


def save(
    checkpoints: ocp.CheckpointManager,
    number: int,
    carry: Carry,
    runs: int,
    computation: Computation,
    keep: int,
    **facts: Any,
) -> None:
    """Write the first `runs` rows of `carry` as checkpoint `number` of what `computation` (of config) describes.

    The ring of `carry` may be None. `facts` go into the label: `progress`, `{name: number}`, says where in the run it
    was made, `environment` is the environment's fingerprint. Afterwards it stays, with `keep - 1` others. Of one with
    the same number that was there before, nothing is lost until this one is whole.
    """
    kept = {name: _data(x) for name, x in _named(carry) if x.size}
    arrays = Arrays(kept, runs, {name: str(x.dtype) for name, x in _named(carry) if x.size})
    made = {
        "computation": computation,
        "versions": origin(len(carry.diverged.devices())),
        "commit": commit(),
        "ring": carry.ring is not None,
    }
    folder = _write(checkpoints, number, arrays, made | facts)
    others = [other for other in numbers(folder.parent.parent) if other != number]
    for old in others[keep - 1 :]:
        delete(checkpoints, old)


def fork(source: Path, target: Path, number: int, rows: Sequence[int], computations: Sequence[Computation]) -> None:
    """Make checkpoint `number` of the run in the folder `target` of some `rows` of the one of `source`.

    `computations` are those of both. Raises Damaged.
    """
    found = verify(source, number, computations[0])
    whole, leaves = read_arrays(_file(_folder(source) / str(number)))
    dtypes = {name: leaf.dtype for name, leaf in leaves.items() if leaf.dtype}
    arrays = Arrays({name: array[rows] for name, array in whole.items()}, None, dtypes)
    facts = {name: x for name, x in found.items() if name not in ("files", "label")}
    _write(manager(target), number, arrays, facts | {"computation": computations[1]})


def _write(checkpoints: ocp.CheckpointManager, number: int, arrays: Arrays, facts: Label) -> Path:
    """Write arrays, and the label, which has `facts`. Returns the folder of the checkpoint.

    One of that number stays until the new one is whole.
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
    except OSError:  # What was written would fill the disk.
        for part in (folder, *folder.parent.glob(f"{number}.orbax-checkpoint-tmp*")):
            shutil.rmtree(part, ignore_errors=True)
        _put_back(before)
        raise
    shutil.rmtree(before, ignore_errors=True)
    return folder


def _put_back(before: Path) -> None:
    """Have a checkpoint again that a new one was to replace, where that one never became whole."""
    folder = before.with_name(before.name.removesuffix(REPLACED))
    if before.exists() and not (folder / LABEL).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def numbers(path: Path | str) -> list[int]:
    """The checkpoints in the run folder `path`, the newest first. Raises OSError where they cannot be listed."""
    try:
        found = [file.name for file in _folder(path).iterdir()]
    except FileNotFoundError:
        return []
    return sorted((int(name) for name in found if name.isdecimal() and name.isascii()), reverse=True)


def read_label(path: Path | str, number: int, computation: Computation) -> Label:
    """The label of a checkpoint.

    Raises Damaged, ValueError where another computation wrote it, Misfit where it is of a kind that is not known here,
    and OSError where it cannot be read now.
    """
    try:
        found = json.loads((_folder(path) / str(number) / LABEL).read_bytes())
        whole = found["label"] == _digest_of_label(found)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"its label cannot be read: {error}") from error
    if not whole:
        raise Damaged("its label is not as it was written")
    if lacking := [name for name in ("computation", "versions", "ring", "files") if name not in found]:
        raise _misfit(path, number, found, [f"its label has no {lacking[0]!r}"])
    if differs := differences(found["computation"], computation):
        raise ValueError(f"checkpoint {number} of {path} is of another run: {differs}; run.toml may have been changed")
    return found


def verify(path: Path | str, number: int, computation: Computation) -> Label:
    """The label of a checkpoint, all of whose files are as they were written. Raises as `label` does."""
    found = read_label(path, number, computation)
    _check(_folder(path) / str(number), found)
    return found


def restore(checkpoints: ocp.CheckpointManager, number: int, like: Carry, label: Label) -> Carry:
    """The carry of checkpoint `number`, in NumPy but for its keys, and on the disk until it is asked for; `like` is an
    abstract one, with a ring where `label` says so.

    Raises Damaged where it is not as it was written, Misfit where it is, but `like` is another, and OSError where it
    cannot be read.
    """
    path = Path(checkpoints.directory).parent
    _check(_folder(path) / str(number), label)
    arrays = fitting(path, number, like, label)
    leaves = [_leaf(arrays.get(name), x) for name, x in _named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def check_newest(
    path: Path,
    numbers: Iterable[int],
    computation: Computation,
    like: Callable[[bool], Carry],
    environment: Fingerprint | None = None,
) -> None:
    """Raises Misfit where the newest whole one of the checkpoints `numbers` is not as `like(ring)`; reads no array.

    `environment` is the fingerprint of this program's.
    """
    for number in numbers:
        with suppress(Damaged):
            found = read_label(path, number, computation)
            fitting(path, number, like(found["ring"]), found, environment)
            return


def set_aside(path: Path, names: Iterable[str]) -> list[str]:
    """Copy files of the run folder `path`, those that there are; returns what the copies are called."""
    stamp, copies = datetime.now().strftime("%Y%m%d-%H%M%S-%f"), []
    for file in (path / name for name in names):
        if file.is_file():
            first = Path(file.relative_to(path).parts[0])  # Beside others: in policy/ there are those of groups.
            copies.append(path / f"{first.stem}-before-{stamp}{file.suffix}")
            shutil.copy2(file, copies[-1])
    return [copy.name for copy in copies]


def fitting(
    path: Path, number: int, like: Carry, label: Label, environment: Fingerprint | None = None
) -> dict[str, np.ndarray]:
    """`{name: array}` of checkpoint `number` of the run in `path`, as `like` has them; the arrays stay on the disk.

    Raises Misfit where they are others, Damaged where that is because a file is not as it was written, and OSError
    where one cannot be read.
    """
    folder = _folder(path) / str(number)
    try:
        arrays, found = read_arrays(_file(folder))
        differing = _differing(found, {name: _kept(x) for name, x in _named(like) if x.size})
        if not differing:
            return arrays
    except OSError:
        raise
    except Exception as error:  # Whatever NumPy says of bytes that are none of its.
        _check(folder, label)
        if isinstance(error, MemoryError):
            raise
        differing = [f"{ARRAYS} cannot be read ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]})"]
    _check(folder, label)
    raise _misfit(path, number, label, differing, environment)


def _differing(found: dict[str, Leaf], expected: dict[str, Leaf]) -> list[str]:
    """`["x is absent there and float32[3] here"]` of two `{name: Leaf}`."""
    return [
        f"{name} is {found.get(name, 'absent')} there and {expected.get(name, 'absent')} here"
        for name in expected | found
        if name not in expected or name not in found or not found[name].holds(expected[name])
    ]


def _misfit(
    path: Path | str, number: int, label: Label, differing: list[str], environment: Fingerprint | None = None
) -> Misfit:
    """The error that says how a checkpoint differs from this program, and what would work."""
    shown = differing[:3] + ([f"and {len(differing) - 3} more"] if len(differing) > 3 else [])
    then, now = label.get("versions", {}), origin(None)
    others = changed({name: x for name, x in then.items() if name != "devices"}, now)
    since = [f"since then {', '.join(others)}" if others else "the versions are the same"]
    if environment and label.get("environment"):
        since += filter(None, [fingerprint.difference(label["environment"], environment, "then")])
    return Misfit(
        f"checkpoint {number} of {path} is whole but does not fit this program: {', '.join(shown)}; "
        f"{'; '.join(since)}; nothing was changed in the folder; go on with {_writer(path, label)}, "
        "or name another folder with --out"
    )


def _writer(path: Path | str, label: Label) -> str:
    """What wrote a checkpoint, in words: its version, and its commit, that of run.toml where an older one kept none."""
    try:
        made = read_toml(Path(path) / "run.toml").get(RECORD, {}) | label
    except ValueError:
        made = label
    version = made.get("versions", {}).get("purerl", "?")
    flag = made.get("flags", {}).get("jax_default_prng_impl", "threefry2x32")
    also = "" if flag == flags()["jax_default_prng_impl"] else f", JAX_DEFAULT_PRNG_IMPL={flag}"
    wrote = made.get("commit", "unknown")
    return f"what wrote it (purerl {version}, commit {wrote}{also}, its environment and its algorithm)"


def _append(file: io.BufferedWriter, array: AnyArray, runs: int) -> None:
    """Write the first `runs` rows of an array as `numpy.save` does, part by part where it lies on several devices."""
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
    """`({name: array}, {name: Leaf})` of a file that `ArraysHandler` wrote, the arrays as maps of the file."""
    with open(file, "rb") as opened:
        named = np.lib.format.read_array(opened, allow_pickle=False)
        dtypes = dict(named.tolist() if named.ndim == 2 else ((name, None) for name in named.tolist()))
        arrays = {name: _map(opened) for name in dtypes}
    return arrays, {name: Leaf(dtype, arrays[name].shape, arrays[name].dtype) for name, dtype in dtypes.items()}


def _map(file: BinaryIO) -> np.ndarray:
    """The next array in an open file; afterwards it is at the one after."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    array = np.memmap(file, dtype, "r", offset, shape)
    file.seek(offset + array.nbytes)
    return array


def _file(folder: Path) -> Path:
    """The file of arrays in the folder of a checkpoint. Raises ValueError where there is none."""
    file = next(folder.rglob(ARRAYS), None)
    if file is None:
        raise ValueError(f"there is no {ARRAYS}")
    return file


def _check(folder: Path, label: Label) -> None:
    """Raises Damaged where a file is not as it was written, and OSError where it cannot be read."""
    for name, digest in label["files"].items():
        try:
            whole = _digest(folder / name) == digest
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            whole = False
        if not whole:
            raise Damaged(f"{name} is not as it was written")


def delete(checkpoints: ocp.CheckpointManager, number: int) -> None:
    folder = Path(checkpoints.directory) / str(number)
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
    checkpoints.reload()


def _folder(path: Path | str) -> Path:
    return (Path(path) / "checkpoints").absolute()


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    """`[(name, leaf)]`, by its path; of leaves that are called the same, the later ones are numbered."""
    leaves = [(jax.tree_util.keystr(path), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]
    seen: Counter[str] = Counter()
    for i, (name, x) in enumerate(leaves):
        seen[name] += 1
        leaves[i] = (name if seen[name] == 1 else f"{name} #{seen[name]}", x)
    return leaves


def _data(x: AnyArray) -> AnyArray:
    """What is written of a leaf: of a random key its data."""
    return jax.random.key_data(x) if _is_key(x) else x


def _kept(x: jax.ShapeDtypeStruct) -> Leaf:
    """The `Leaf` of an abstract array."""
    data = jax.eval_shape(_data, x)
    return Leaf(str(x.dtype), data.shape, np.dtype(data.dtype))


def _leaf(array: np.ndarray | None, like: jax.ShapeDtypeStruct) -> AnyArray:
    """An array of a checkpoint as `like` is; None is one that holds nothing, and was not written."""
    if array is None:
        array = np.zeros(*_kept(like)[1:])
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_implementation(like))
    return array if array.dtype == like.dtype else array.view(like.dtype)


def _implementation(like: jax.ShapeDtypeStruct) -> Any:
    """The generator of an abstract key; JAX tells it of a traced one."""
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
