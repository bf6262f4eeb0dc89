"""The calibration of a whole model: what the input of every linear is to be quantized with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError, unknown_name
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, channel_groups
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

    windows: int = 4
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
    version: str = VERSION
    """Version of accelsim that made it."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Channel groups of all linears of a model; linears that share an input share them."""

    provenance: Provenance
    inputs: dict[str, ChannelGroups]
    """Name of an input as captured tensors have it, such as `layer3.qkv_input` -> groups."""

    def groups_of(self, tensors: GemmTensors) -> ChannelGroups:
        """Return the groups of the linear that `tensors` belong to.

        Raises QuantizationError for tensors of no linear, of another model or of another shape,
        and UnknownNameError for a linear that the calibration does not know.
        """
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
        found = self._of_linear(tensors.linear)
        if found.k != tensors.a.shape[1]:
            raise QuantizationError(
                f"{tensors.linear}: the calibration has {found.k} input channels, "
                f"found {tensors.a.shape[1]}"
            )
        return found

    def _of_linear(self, linear: str) -> ChannelGroups:
        layer, _, name = linear.partition(".")
        key = f"{layer}.{INPUT_OF.get(name, name)}"
        if key not in self.inputs:
            layers = {each.partition(".")[0] for each in self.inputs}
            known = [f"{each}.{own}" for each in layers for own in INPUT_OF]
            raise unknown_name("linear of the calibration", linear, known)
        return self.inputs[key]


def calibrate(
    model: str,
    options: GroupOptions,
    sampling: Sampling,
    text: Sources = CALIBRATED_KINDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Return the groups of all linears of a model, from what it sees of texts in FP32.

    `model` is the name of a fetched one, or a path; `text` is one or several kinds or files.
    `progress` takes the layers done and all layers. The inputs of one layer are in memory at once:
    tokens x (3 hidden + ffn) x 4 bytes.
    """
    network, mixture = load_model(model), read_texts(text)
    windows = np.concatenate([sampled_windows(network, text, sampling) for text in mixture])
    layers = network.weights.config.layers
    inputs = {}
    progress(0, layers)
    for layer, seen in enumerate(inputs_of_layers(network.weights, windows)):
        for name, samples in seen.items():
            key = f"layer{layer}.{name}"
            inputs[key] = _groups(key, samples, options)
        progress(layer + 1, layers)
    return Calibration(provenance_of(network.name, mixture, sampling, options), inputs)


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
            f"text {text.name} has {len(ids)} tokens, found windows up to token {stop}; allowed: "
            f"as many windows as it has tokens for, or a smaller first_token"
        )
    starts = range(sampling.first_token, stop, sampling.window)
    return np.array([network.opened(ids[start : start + sampling.window]) for start in starts])


def _groups(name: str, samples: Array, options: GroupOptions) -> ChannelGroups:
    try:
        return channel_groups(samples, options)
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error


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
