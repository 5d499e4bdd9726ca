"""Files of `torch.save` without PyTorch and without running anything of them.

Such a file is a zip archive: `data.pkl`, a pickled structure, and `data/KEY`, the bytes of each
storage. Pickle is a program for a stack machine that may call anything by its name. The machine
here knows the few instructions that plain containers need and five names, which it answers itself;
nothing is imported or called, and any other instruction or name ends the reading with an error.
"""

import math
import pickletools
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from posejax.data.archive import Archive
from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

EXPECTED = "a state dict saved by torch.save (a zip archive, PyTorch 1.6 or later)"
CONVERT = """where PyTorch is at hand:
    import torch, safetensors.torch
    state = torch.load({path!r}, map_location="cpu", weights_only=True)
    safetensors.torch.save_file({{k: v.contiguous() for k, v in state.items()}}, {new!r})"""
_MOST_PICKLE = 1 << 25  # bytes; a tensor takes some hundred
_MOST_OPCODES = 1 << 18  # a tensor takes some forty
_MOST_AXES = 32
_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bf16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?", "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
}  # fmt: skip
_TENSOR, _PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
_ORDERED, _SIZE = "collections OrderedDict", "torch Size"


class _Name(NamedTuple):
    """A global of the pickle: "module name"."""

    text: str


class _Storage(NamedTuple):
    values: np.ndarray


def read_torch(path: str | Path) -> Any:
    """What `torch.save` wrote: plain containers, texts and numbers as they are, tensors as arrays.

    Views stay views: tensors that shared a storage share memory. bfloat16 becomes float32, exactly.
    Devices, gradients and the metadata of state dicts are left out.

    Raises:
      DataError: missing or damaged file, the format before PyTorch 1.6, or anything that is not
        made of tensors and plain containers (whole modules, optimisers of one's own, code).
    """
    raw = read_bytes(path, EXPECTED)
    if not raw.startswith(b"PK\x03\x04"):
        name = Path(path).name
        hint = CONVERT.format(path=name, new=Path(name).with_suffix(".safetensors").name)
        found = "a bare pickle, which is not loaded: doing so runs code of its author's choice"
        raise DataError(path, "file", found, EXPECTED, hint)
    archive = Archive(path, raw, EXPECTED, "record")
    pickles = [name for name in archive.members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise DataError(path, "records", f"{len(pickles)} named data.pkl", EXPECTED)
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.members:
        found = "a TorchScript program"
        raise DataError(path, "file", found, EXPECTED, "save its state_dict() instead")
    archive.check_sizes(archive.members)
    if archive.members[pickles[0]].file_size > _MOST_PICKLE:
        found = f"{archive.members[pickles[0]].file_size} bytes"
        raise DataError(path, "record data.pkl", found, f"at most {_MOST_PICKLE}")
    return _Machine(path, archive, folder).run(archive.read(pickles[0]))


class _Machine:
    """The stack machine; `at` is the byte of the instruction that it has come to."""

    def __init__(self, path: str | Path, archive: Archive, folder: str):
        self.path, self.archive, self.folder = path, archive, folder
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, tuple[str, np.ndarray]] = {}
        self.at = 0
        self.order: Literal["<", ">"] = self._byte_order()

    def run(self, program: bytes) -> Any:
        instructions = pickletools.genops(program)
        for _ in range(_MOST_OPCODES):
            with decoding(self.path, f"data.pkl after byte {self.at}", EXPECTED):
                opcode, argument, at = next(instructions)
            self.at = at or 0
            if opcode.name == "STOP":
                if len(self.stack) != 1 or self.marked:
                    self.refuse(f"{len(self.stack)} values at the end")
                return self.stack[0]
            self._do(opcode.name, argument)
        self.refuse(f"more than {_MOST_OPCODES} instructions")

    def refuse(self, found: str, hint: str = "") -> NoReturn:
        raise DataError(self.path, f"data.pkl, byte {self.at}", found, EXPECTED, hint)

    def pop(self, kind: type | tuple[type, ...] = object) -> Any:
        if not self.stack:
            self.refuse("an instruction without its operands")
        value = self.stack.pop()
        if not isinstance(value, kind):
            self.refuse(f"{_kind(value)} in an odd place")
        return value

    def pop_marked(self) -> list[Any]:
        if not self.marked:
            self.refuse("an end without its mark")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _do(self, name: str, argument: Any) -> None:
        push = self.stack.append
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marked.append(self.stack)
                self.stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                push(argument)
            case "EMPTY_TUPLE":
                push(())
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE":
                items = tuple(self.pop_marked())
                self.stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self.pop() for _ in range(int(name[-1])))[::-1])
            case "APPEND" | "APPENDS":
                items = self.pop_marked() if name == "APPENDS" else [self.pop()]
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.pop_marked() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
                self._set_items(self.top(dict), items)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top(object)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    self.refuse(f"the value {argument}, which was never kept")
                push(self.memo[argument])
            case "GLOBAL":
                push(self._name(argument))
            case "STACK_GLOBAL":
                name, module = self.pop(str), self.pop(str)
                push(self._name(f"{module} {name}"))
            case "BINPERSID":
                push(self._storage(self.pop(tuple)))
            case "REDUCE":
                arguments, function = self.pop(tuple), self.pop(_Name)
                push(self._call(function.text, arguments))
            case "BUILD":  # a state dict's metadata: versions of its modules
                self.pop(dict)
                self.top(dict)
            case _:
                self.refuse(f"the instruction {name}")

    def top(self, kind: type) -> Any:
        value = self.pop(kind)
        self.stack.append(value)
        return value

    def _set_items(self, target: dict, items: list[Any]) -> None:
        if len(items) % 2:
            self.refuse("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nothing nested: hashing it could take for ever.
            if not isinstance(key, str | int | float | None):
                self.refuse(f"{_kind(key)} as a key")
            target[key] = value

    def _name(self, text: str) -> _Name:
        module, _, name = text.partition(" ")
        known = {_TENSOR, _PARAMETER, _ORDERED, _SIZE}
        if text not in known and not (module == "torch" and name in _DTYPES):
            hint = "it was not looked up or run; save model.state_dict() alone"
            self.refuse(f"asks for {text[:80].replace(' ', '.')}", hint)
        return _Name(text)

    def _call(self, name: str, arguments: tuple) -> Any:
        if name == _ORDERED and not arguments:
            return {}
        if name == _SIZE and len(arguments) == 1 and isinstance(arguments[0], tuple):
            return arguments[0]
        if name == _TENSOR and 6 <= len(arguments) <= 7:
            return self._tensor(*arguments[:4])
        if name == _PARAMETER and arguments and isinstance(arguments[0], np.ndarray):
            return arguments[0]
        self.refuse(f"{name.replace(' ', '.')} of odd arguments")

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        """The view of a storage, all of whose elements are there."""
        if not isinstance(storage, _Storage):
            self.refuse(f"a tensor of {_kind(storage)}")
        values, sides = storage.values, [offset, *self._sizes(shape), *self._sizes(strides)]
        if any(type(x) is not int or not 0 <= x < 1 << 48 for x in sides):
            self.refuse("a tensor whose offset, shape or strides are no sizes")
        if len(shape) != len(strides) or len(shape) > _MOST_AXES:
            self.refuse(f"a tensor of {len(shape)} axes and {len(strides)} strides")
        count = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if count and (last >= len(values) or count > len(values)):
            self.refuse(
                f"a tensor of {count} elements up to the {last + 1}th in a storage of {len(values)}"
            )
        if not count:
            if math.prod(n for n in shape if n) >= 1 << 48:  # NumPy's own limit is near
                self.refuse(f"an empty tensor of shape {shape}")
            return np.empty(shape, values.dtype)
        steps = [step * values.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, steps)

    def _sizes(self, value: Any) -> tuple:
        if not isinstance(value, tuple):
            self.refuse(f"{_kind(value)} as the shape or the strides of a tensor")
        return value

    def _storage(self, reference: tuple) -> _Storage:
        """("storage", its type, its key, its device, its number of elements)."""
        match reference:
            case ("storage", _Name(text), str(key), _, int(count)):
                kind = _DTYPES.get(text.removeprefix("torch "))
            case _:
                self.refuse("a reference to something else than a storage")
        if kind is None:
            self.refuse(f"a storage of {text}")
        if key not in self.storages:
            self.storages[key] = kind, self._values(key, kind)
        known, values = self.storages[key]
        if known != kind or len(values) != count:
            self.refuse(f"{count} elements of {kind} in a storage of {len(values)} of {known}")
        return _Storage(values)

    def _values(self, key: str, kind: str) -> np.ndarray:
        name = f"{self.folder}data/{key}"
        if name not in self.archive.members:
            raise DataError(self.path, self.archive.field(name), "missing", EXPECTED)
        raw = bytearray(self.archive.read(name))
        stored = np.dtype({"bf16": "u2", "?": "u1"}.get(kind, kind)).newbyteorder(self.order)
        if len(raw) % stored.itemsize:
            found = f"{len(raw)} bytes of {kind}"
            raise DataError(self.path, self.archive.field(name), found, EXPECTED)
        values = np.frombuffer(raw, stored)
        if kind == "?":
            return values != 0
        if kind == "bf16":  # the upper half of a float32
            return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values.astype(stored.newbyteorder("="), copy=False)

    def _byte_order(self) -> Literal["<", ">"]:
        name = f"{self.folder}byteorder"
        text = self.archive.read(name) if name in self.archive.members else b"little"
        if text not in (b"little", b"big"):
            raise DataError(self.path, self.archive.field(name), repr(text[:20]), "little or big")
        return "<" if text == b"little" else ">"


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, np.ndarray) else f"a {type(value).__name__.strip('_')}"
