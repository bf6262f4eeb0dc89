"""Every tensor format of GGUF against a decoder written for this test.

Blocks are decoded element by element in Python, after the layouts in ggml-common.h and the loops of
`dequantize_row_*` in ggml-quants.c, github.com/ggml-org/ggml.
"""

import struct

import gguf
import numpy as np
import pytest

from accelsim.workload.model.gguf_file import READABLE_TYPES, GgufFile

ROWS, COLUMNS = 3, 512


def half(block, at):
    return float(np.frombuffer(block[at : at + 2], np.float16)[0])


def q4_0(block):
    values = [each & 15 for each in block[2:]] + [each >> 4 for each in block[2:]]
    return [half(block, 0) * (each - 8) for each in values]


def q4_1(block):
    values = [each & 15 for each in block[4:]] + [each >> 4 for each in block[4:]]
    return [half(block, 0) * each + half(block, 2) for each in values]


def five_bits(block, at):
    high = int.from_bytes(block[at : at + 4], "little")
    low = [each & 15 for each in block[at + 4 :]] + [each >> 4 for each in block[at + 4 :]]
    return [each | (high >> index & 1) << 4 for index, each in enumerate(low)]


def q5_0(block):
    return [half(block, 0) * (each - 16) for each in five_bits(block, 2)]


def q5_1(block):
    return [half(block, 0) * each + half(block, 2) for each in five_bits(block, 4)]


def q8_0(block):
    return [half(block, 0) * each for each in struct.unpack("32b", block[2:])]


def q2_k(block):
    scales, codes = block[:16], block[16:80]
    d, minimum = half(block, 80), half(block, 82)
    values = []
    for index in range(256):
        part, offset = divmod(index, 128)
        shift, lane = divmod(offset, 32)
        scale = scales[index // 16]
        code = codes[32 * part + lane] >> 2 * shift & 3
        values.append(d * (scale & 15) * code - minimum * (scale >> 4))
    return values


def q3_k(block):
    high, codes, packed, d = block[:32], block[32:96], block[96:108], half(block, 108)
    values = []
    for index in range(256):
        part, offset = divmod(index, 128)
        shift, lane = divmod(offset, 32)
        group = index // 16
        low = packed[group] & 15 if group < 8 else packed[group - 8] >> 4
        scale = (low | (packed[8 + group % 4] >> 2 * (group // 4) & 3) << 4) - 32
        code = codes[32 * part + lane] >> 2 * shift & 3
        is_high = high[lane] >> (4 * part + shift) & 1
        values.append(d * scale * (code - (0 if is_high else 4)))
    return values


def scale_and_minimum(packed, group):
    if group < 4:
        return packed[group] & 63, packed[group + 4] & 63
    return (
        packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
        packed[group + 4] >> 4 | packed[group] >> 6 << 4,
    )


def q4_k(block):
    d, minimum, packed, codes = half(block, 0), half(block, 2), block[4:16], block[16:]
    values = []
    for index in range(256):
        group, lane = divmod(index, 32)
        byte = codes[32 * (group // 2) + lane]
        scale, least = scale_and_minimum(packed, group)
        values.append(d * scale * (byte >> 4 if group % 2 else byte & 15) - minimum * least)
    return values


def q5_k(block):
    d, minimum, packed = half(block, 0), half(block, 2), block[4:16]
    high, codes = block[16:48], block[48:]
    values = []
    for index in range(256):
        group, lane = divmod(index, 32)
        byte = codes[32 * (group // 2) + lane]
        code = (byte >> 4 if group % 2 else byte & 15) + 16 * (high[lane] >> group & 1)
        scale, least = scale_and_minimum(packed, group)
        values.append(d * scale * code - minimum * least)
    return values


def q6_k(block):
    low, high, d = block[:128], block[128:192], half(block, 208)
    scales = struct.unpack("16b", block[192:208])
    values = []
    for index in range(256):
        part, offset = divmod(index, 128)
        quarter, lane = divmod(offset, 32)
        byte = low[64 * part + lane + 32 * (quarter % 2)]
        nibble = byte >> 4 if quarter >= 2 else byte & 15
        code = (nibble | (high[32 * part + lane] >> 2 * quarter & 3) << 4) - 32
        values.append(d * scales[index // 16] * code)
    return values


DECODERS = {
    "F32": lambda block: struct.unpack("<f", block),
    "F16": lambda block: [half(block, 0)],
    "BF16": lambda block: struct.unpack("<f", b"\0\0" + block),
    "Q4_0": q4_0,
    "Q4_1": q4_1,
    "Q5_0": q5_0,
    "Q5_1": q5_1,
    "Q8_0": q8_0,
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
}
HALVES = {
    "F16": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
"""Where the scales of a block lie, which random bytes could make infinite."""


def random_blocks(name, rng):
    length, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    count = ROWS * COLUMNS // length
    if name in ("F32", "BF16"):
        floats = rng.standard_normal(count).astype("<f4").view(np.uint8).reshape(count, 4)
        return floats[:, 4 - size :]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        scales = rng.standard_normal(count).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks


def test_every_format_has_a_decoder():
    assert set(DECODERS) == set(READABLE_TYPES.values())


@pytest.mark.parametrize("name", DECODERS)
def test_values(name, tmp_path):
    blocks = random_blocks(name, np.random.default_rng(46))
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    kind = gguf.GGMLQuantizationType[name]
    writer.add_tensor("t", blocks.reshape(ROWS, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufFile(tmp_path / "x.gguf").read("t", (ROWS, COLUMNS))
    expected = np.concatenate([DECODERS[name](each.tobytes()) for each in blocks])
    # Ours rounds the two products and their difference to FP32.
    tolerance = 2 * 2.0**-24 * np.abs(expected).max()
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=tolerance)
