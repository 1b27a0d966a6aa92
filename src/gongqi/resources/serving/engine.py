"""Models in memory: ONNX Runtime sessions made from content-addressed blobs.

Invariants
- What runs is what was released: the bytes are hashed as they are read, and those same bytes make the session.
- A model that points at files outside itself is refused: such a name would be looked up on the server's own disk.
- At most MAX_SESSIONS models and MAX_LOADED_BYTES of model bytes stay loaded; who was asked longest ago leaves first.
- A run ends within RUN_SECONDS, or is ended.

ONNX Runtime and NumPy are imported at the first call, so that a server which serves nothing stays small.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.errors import Broken, Refused, Unavailable
from gongqi.resources.hub import service as hub
from gongqi.resources.serving.engines.encoder import open_session
from gongqi.resources.serving.rules import FREE, Port, Ports, Tensor

MAX_SESSIONS = 8
MAX_LOADED_BYTES = 1 << 30
MAX_MODEL_BYTES = 512 << 20  # larger models are for a server of their own
MAX_THREADS = 2  # within one run; several calls run side by side anyway
RUN_SECONDS = 20.0  # well below the minute for which a call's fee is set aside
MAX_OUTPUT_VALUES = 4_000_000  # some 40 MB of JSON

DATATYPES = {  # ONNX tensor type → (Open Inference Protocol datatype, NumPy dtype)
    "tensor(bool)": ("BOOL", "bool"),
    "tensor(float)": ("FP32", "float32"),
    "tensor(double)": ("FP64", "float64"),
    "tensor(int8)": ("INT8", "int8"),
    "tensor(int16)": ("INT16", "int16"),
    "tensor(int32)": ("INT32", "int32"),
    "tensor(int64)": ("INT64", "int64"),
    "tensor(uint8)": ("UINT8", "uint8"),
    "tensor(uint16)": ("UINT16", "uint16"),
    "tensor(uint32)": ("UINT32", "uint32"),
    "tensor(uint64)": ("UINT64", "uint64"),
    "tensor(string)": ("BYTES", "object"),
}
_DTYPES = dict(DATATYPES.values())


@dataclass(frozen=True, slots=True)
class Loaded:
    session: Any
    ports: Ports
    size: int


class Engine:
    """Loads and runs models by digest. Safe to use from many threads; a kernel part."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()  # one at a time: loading is what costs memory

    def ports(self, sha256: str) -> Ports:
        """What the model takes and gives. Raises as `run`, but for what a run itself may raise."""
        return self._model(sha256).ports

    def run(self, sha256: str, inputs: Sequence[Tensor], outputs: Sequence[str] = ()) -> list[Tensor]:
        """The outputs named (all when none is), for inputs that `rules.fit` has found to fit.

        Raises: Refused("serving.model-unloadable"), Refused("serving.model-too-large") for what cannot be served;
        Unavailable("serving.run-too-long"), Unavailable("serving.run-failed") when the model fails on this input.
        """
        import numpy

        model = self._model(sha256)
        feed = {
            tensor.name: numpy.array(tensor.values, dtype=_DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor in inputs
        }
        wanted = [port for port in model.ports.outputs if not outputs or port.name in outputs]
        with _limited(RUN_SECONDS) as options:
            try:
                arrays = model.session.run([port.name for port in wanted], feed, options)
            except Exception as error:  # ONNX Runtime raises its own types, which it does not export
                code = "serving.run-too-long" if options.terminate else "serving.run-failed"
                raise Unavailable(code, retry_after_seconds=5, detail=str(error)[:2000]) from error
        return [_tensor(port, array) for port, array in zip(wanted, arrays, strict=True)]

    def _model(self, sha256: str) -> Loaded:
        with self._lock:
            if found := self._loaded.get(sha256):
                self._loaded.move_to_end(sha256)
                return found
        with self._loading:
            with self._lock:
                if found := self._loaded.get(sha256):  # another thread has just loaded it
                    return found
            model = self._load(sha256)
            with self._lock:
                self._loaded[sha256] = model
                while len(self._loaded) > MAX_SESSIONS or self._held_bytes() > MAX_LOADED_BYTES:
                    self._loaded.popitem(last=False)
            return model

    def _held_bytes(self) -> int:
        return sum(model.size for model in self._loaded.values())

    def _load(self, sha256: str) -> Loaded:
        if self._blobs.size(sha256) > MAX_MODEL_BYTES:
            raise Refused("serving.model-too-large", limit_bytes=MAX_MODEL_BYTES)
        data = self._blobs.read(sha256, limit_bytes=MAX_MODEL_BYTES)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Broken("serving.model-altered", sha256=sha256)
        if hub.inspect_blob(self._blobs, sha256, "model.onnx").external:
            raise Refused("serving.model-unloadable", sha256=sha256, reason="external data")
        try:
            session = open_session(data, min(MAX_THREADS, os.cpu_count() or 1))
            ports = Ports(*(tuple(map(_port, ports)) for ports in (session.get_inputs(), session.get_outputs())))
        except Exception as error:  # as in `run`
            raise Refused(
                "serving.model-unloadable", sha256=sha256, reason=type(error).__name__, detail=str(error)[:2000]
            ) from error
        return Loaded(session, ports, len(data))


@contextmanager
def _limited(seconds: float) -> Iterator[Any]:
    """Options of a run that is told to stop when its time is over."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _port(node: Any) -> Port:
    if node.type not in DATATYPES:
        raise ValueError(f"{node.name} has the type {node.type}")
    return Port(node.name, DATATYPES[node.type][0], tuple(d if isinstance(d, int) else FREE for d in node.shape or ()))


def _tensor(port: Port, array: Any) -> Tensor:
    """An output as a tensor. A model that answers NaN has failed: JSON has no word for it."""
    import numpy

    if array.size > MAX_OUTPUT_VALUES:
        raise Unavailable("serving.run-failed", detail=f"{port.name} has {array.size} values")
    if array.dtype.kind == "f" and not numpy.isfinite(array).all():
        raise Unavailable("serving.run-failed", detail=f"{port.name} is not finite")
    return Tensor(port.name, port.datatype, tuple(array.shape), array.ravel().tolist())
