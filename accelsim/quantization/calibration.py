"""The calibration of a whole model: what the input of every linear is to be quantized with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError, unknown_name
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, channel_groups
from accelsim.quantization.codes import Quantized, Scales, check_finite, largest_code
from accelsim.quantization.gptq import compensated, second_moments
from accelsim.quantization.rotation import Rotation
from accelsim.version import VERSION
from accelsim.workload.model.capture import INPUT_OF
from accelsim.workload.model.forward import (
    Hooks,
    decoder_layer,
    embedded,
    layer_rotations,
    one_blas_thread,
    plain_linear,
)
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.llama import Array, LlamaWeights
from accelsim.workload.model.texts import CALIBRATED_KINDS, Sources, Text, read_texts
from accelsim.workload.tensors import GemmTensors

TokenIds = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What of every text is read. Raises QuantizationError for what is impossible."""

    windows: int = 2
    """Windows of every text."""
    window: int = 1024
    """Tokens in a window."""
    first_token: int = 8192
    """Where in the text the first window starts; what is to be evaluated lies before."""

    def __post_init__(self) -> None:
        for name, fewest in (("windows", 1), ("window", 1), ("first_token", 0)):
            if getattr(self, name) < fewest:
                raise QuantizationError(
                    f"{name}: found {getattr(self, name)}, allowed: {fewest} or more"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledText:
    """A text that was read."""

    name: str
    """Its kind, or its file."""
    sha256: str
    """Hash of all of it in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a calibration comes from."""

    model: str
    """Name of the model."""
    texts: tuple[SampledText, ...]
    """The mixture that was read."""
    sampling: Sampling
    options: GroupOptions
    weight_bits: int | None = None
    """Bits of the codes of weights that it holds; None: it holds none."""
    version: str = VERSION
    """Version of accelsim that made it."""


class StoredWeights(NamedTuple):
    """Codes of the weights of a linear, a byte each as a file has them."""

    codes: NDArray[np.int8]
    """[k, n], rotated as the input is."""
    scale: Scales
    """[1, n]"""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Channel groups of all linears of a model; linears that share an input share them."""

    provenance: Provenance
    inputs: dict[str, ChannelGroups]
    """Name of an input as captured tensors have it, such as `layer3.qkv_input` -> groups."""
    weights: dict[str, StoredWeights] = field(default_factory=dict)
    """Linear, such as `layer3.q` -> its weights; empty: they are rounded where they are used."""

    def groups_of(self, tensors: GemmTensors) -> ChannelGroups:
        """Return the groups of the linear that `tensors` belong to.

        Raises QuantizationError for tensors of no linear, of another model or of another shape,
        and UnknownNameError for a linear that the calibration does not know.
        """
        self._check_model(tensors)
        found = self._of_linear(str(tensors.linear))
        if found.k != tensors.a.shape[1]:
            raise QuantizationError(
                f"{tensors.linear}: the calibration has {found.k} input channels, "
                f"found {tensors.a.shape[1]}"
            )
        return found

    def weights_of(self, tensors: GemmTensors) -> Quantized:
        """Return the weights of the linear that `tensors` belong to.

        Raises QuantizationError for tensors of no linear, of another model or of another shape.
        """
        self._check_model(tensors)
        linear = str(tensors.linear)
        if linear not in self.weights:
            raise unknown_name("linear of the calibration", linear, list(self.weights))
        found = self.weights[linear]
        if found.codes.shape != tensors.b.shape:
            raise QuantizationError(
                f"{linear}: the calibration has weights {list(found.codes.shape)}, "
                f"found {list(tensors.b.shape)}"
            )
        return Quantized(found.codes.astype(np.int32), found.scale)

    def _check_model(self, tensors: GemmTensors) -> None:
        if tensors.linear is None:
            raise QuantizationError(
                "a calibration is for the linears of a model, found tensors from elsewhere; "
                "allowed: `accelsim quality --linear`, or a workload with `source: model`"
            )
        if tensors.model != self.provenance.model:
            raise QuantizationError(
                f"the calibration is of model '{self.provenance.model}', "
                f"found {tensors.linear} of model '{tensors.model}'"
            )

    def _of_linear(self, linear: str) -> ChannelGroups:
        layer, _, name = linear.partition(".")
        key = f"{layer}.{INPUT_OF.get(name, name)}"
        if key not in self.inputs:
            layers = {each.partition(".")[0] for each in self.inputs}
            known = [f"{each}.{own}" for each in layers for own in INPUT_OF]
            raise unknown_name("linear of the calibration", linear, known)
        return self.inputs[key]


def best_options(bits: int) -> GroupOptions:
    """Return the form of so many bits that loses least on texts that were not calibrated on.

    docs/quantization.md tells what was compared.
    """
    if bits == 4:
        form: dict[str, Any] = {"groups": 4, "ranges": "typical", "candidates": 6}
        return GroupOptions(bits=bits, rotation="hadamard", **form)
    return GroupOptions(bits=bits, rotation="hadamard", groups=1)


def calibrate(
    model: str,
    options: GroupOptions,
    sampling: Sampling,
    text: Sources = CALIBRATED_KINDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    weight_bits: int | None = None,
) -> Calibration:
    """Return the groups of all linears of a model, from what it sees of texts in FP32.

    `model` is the name of a fetched one, or a path; `text` is one or several kinds or files. With
    `weight_bits` the weights become codes as well, whose roundings compensate each other
    (`quantization.gptq`). `progress` takes the layers done and all layers. The inputs of one layer
    are in memory at once: tokens x (3 hidden + ffn) x 4 bytes.
    """
    if weight_bits is not None:
        largest_code(weight_bits)
    network, mixture = load_model(model), read_texts(text)
    windows = np.concatenate([sampled_windows(network, text, sampling) for text in mixture])
    layers = network.weights.config.layers
    inputs: dict[str, ChannelGroups] = {}
    weights: dict[str, StoredWeights] = {}
    progress(0, layers)
    for layer, seen in enumerate(inputs_of_layers(network.weights, windows)):
        linears = network.weights.layers[layer].linears
        for name, samples in seen.items():
            key = f"layer{layer}.{name}"
            inputs[key], turned = _groups(key, samples, options)
            if weight_bits is not None:
                own = {each: linears[each] for each, read in INPUT_OF.items() if read == name}
                coded = _weights(own, turned, options.rotation_of(inputs[key].k), weight_bits)
                weights |= {f"layer{layer}.{each}": codes for each, codes in coded.items()}
        progress(layer + 1, layers)
    provenance = provenance_of(network.name, mixture, sampling, options)
    return Calibration(replace(provenance, weight_bits=weight_bits), inputs, weights)


def provenance_of(
    model: str, texts: Sequence[Text], sampling: Sampling, options: GroupOptions
) -> Provenance:
    """Return where a calibration comes from that read such texts."""
    read = tuple(SampledText(name=text.name, sha256=text.sha256) for text in texts)
    return Provenance(model=model, texts=read, sampling=sampling, options=options)


def sampled_windows(network: LanguageModel, text: Text, sampling: Sampling) -> TokenIds:
    """Return the token ids [windows, window] to read of a text.

    Raises an AccelsimError for windows longer than the model can read, or a text that is too short.
    """
    longest = network.weights.config.context
    if sampling.window > longest:
        raise QuantizationError(
            f"window: found {sampling.window} tokens, allowed: up to {longest}, as many as model "
            f"'{network.name}' reads at once"
        )
    stop = sampling.first_token + sampling.windows * sampling.window
    ids = network.tokenizer.encode(text.content)
    if len(ids) < stop:
        raise QuantizationError(
            f"text {text.name} has {len(ids):,} tokens; found {sampling.windows} windows of "
            f"{sampling.window:,} from token {sampling.first_token:,} on, {_allowed(ids, sampling)}"
        )
    starts = range(sampling.first_token, stop, sampling.window)
    return np.array([network.opened(ids[start : start + sampling.window]) for start in starts])


def _allowed(ids: Sequence[int], sampling: Sampling) -> str:
    """Return what of a text that is too short can be read."""
    fitting = (len(ids) - sampling.first_token) // sampling.window
    latest = len(ids) - sampling.window
    if fitting > 0:
        return f"allowed: up to {fitting} windows there"
    if latest >= 0:
        return f"allowed: first_token up to {latest:,}, for one window"
    return f"allowed: texts of {sampling.window:,} tokens or more, or a smaller window"


def _groups(name: str, samples: Array, options: GroupOptions) -> tuple[ChannelGroups, Array]:
    """Return the groups of an input, and the samples as they were grouped, rotated or not."""
    k = samples.shape[-1]
    try:
        if options.groups > k:
            raise QuantizationError(
                f"groups: found {options.groups} of {k} channels, allowed: up to {k}"
            )
        rotation = options.rotation_of(k)
        if rotation is None:
            return channel_groups(samples, options), samples
        check_finite(samples, "activations")
        turned = rotation.of_activations(samples.reshape(-1, k)).reshape(samples.shape)
        groups = channel_groups(turned, options)
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error
    # Other schemes go by channels as they are.
    return replace(groups, channel_peaks=np.abs(samples).max((0, 1))), turned


@one_blas_thread()
def _weights(
    linears: Mapping[str, Array], samples: Array, rotation: Rotation | None, bits: int
) -> dict[str, StoredWeights]:
    """Return the codes of linears [n, k] that share an input, by its samples."""
    weight = np.concatenate(list(linears.values())).T
    if rotation is not None:
        weight = rotation.of_weights(weight)
    moments = second_moments(samples.reshape(-1, samples.shape[-1]))
    codes, scale = compensated(weight, moments, bits)
    ends = np.cumsum([len(each) for each in linears.values()])[:-1]
    parts = zip(linears, np.split(codes, ends, 1), np.split(scale, ends, 1), strict=True)
    return {name: StoredWeights(own.astype(np.int8), step) for name, own, step in parts}


def inputs_of_layers(weights: LlamaWeights, windows: TokenIds) -> Iterator[dict[str, Array]]:
    """Yield name -> samples [windows, window, k] of the inputs of every layer.

    windows: token ids [windows, window]. All windows pass a layer before the next, so that no more
    than the inputs of one layer are kept.
    """
    states = embedded(weights, windows)
    rotations = layer_rotations(weights, windows.shape[1])
    for layer in range(weights.config.layers):
        seen: dict[str, list[Array]] = {}
        # What overflows is found in the samples, with the name of the input.
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            for window, state in enumerate(states):
                hooks = Hooks(linear=_recording(seen, window))
                states[window] = decoder_layer(weights, layer, state, rotations[layer], hooks)
        yield {name: np.stack(samples) for name, samples in seen.items()}


def _recording(
    seen: dict[str, list[Array]], window: int
) -> Callable[[int, str, Array, Array], Array]:
    """Return plain linears that add their input to `seen`, each input once."""

    def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
        samples = seen.setdefault(INPUT_OF[name], [])
        if len(samples) == window:
            samples.append(x)
        return plain_linear(layer, name, x, weight)

    return linear
