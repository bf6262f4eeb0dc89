"""Measure what an H200 draws: units alone, and kernels of PyTorch. Prints rows of CSV files.

    python measure.py units > units.csv
    python measure.py kernels > h200-energy-boards.csv

Needs PyTorch, CuPy, Triton and a GPU. A row is launches for 1.7 s. Watts are the energy counter of
the board, which ticks every 0.1 s, between the first tick after 0.5 s and the last one; time and
clock are means over the same.
"""

import ctypes
import sys
import time
from functools import partial

import cupy
import torch
import triton
import triton.language as tl
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

WARM_S, MEASURED_S, LAUNCHES_S = 0.5, 1.2, 0.02
CORES, SETS_BYTES = 132, 4e8
FORMATS = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "int8": torch.int8}
PRODUCTS = (
    "8192x8192x8192 4096x4096x4096 2048x22016x4096 512x4096x4096 2048x4096x4096 256x57344x8192 "
    "128x57344x8192 64x57344x8192 1024x1024x8192"
)
MATRICES = "16384x8192 4096x4096 65536x1024"
FUNCTIONS = {
    "gelu": functional.gelu,
    "softmax": lambda x: torch.softmax(x, -1),
    "layernorm": lambda x: functional.layer_norm(x, x.shape[-1:]),
    "rmsnorm": lambda x: functional.rms_norm(x, x.shape[-1:]),
    "copy": torch.clone,
}
MEMORY_BYTES, IN_L2_BYTES = 1 << 31, 24 << 20
PRODUCT = "multiply-accumulate"
ATTENTION = (
    (1, 32, 32, 4096, 4096, 0),
    (1, 32, 8, 4096, 4096, 1),
    (4, 32, 32, 2048, 2048, 0),
    (1, 32, 8, 16384, 16384, 1),
    (8, 32, 8, 1024, 1024, 1),
    (32, 32, 8, 1, 8192, 0),
    (32, 32, 32, 1, 8192, 0),
    (64, 32, 8, 1, 2048, 0),
)
"""Batch, heads, key heads, queries, keys, whether causal; heads of 128."""

nvml, device = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()


def joules():
    found = ctypes.c_ulonglong()
    nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(found))
    return found.value / 1e3


def clock_mhz():
    found = ctypes.c_uint()
    nvml.nvmlDeviceGetClockInfo(device, 1, ctypes.byref(found))
    return found.value


def measured(launch, sets=1, in_graph=True):
    """Return microseconds of a launch, watts and MHz. launch: takes the number of its operands."""
    torch.cuda.set_stream(torch.cuda.Stream())
    for _ in range(2):
        torch.cuda.synchronize()
        begun = time.time()
        for i in range(sets):
            launch(i)
        torch.cuda.synchronize()
    turns = max(1, int(LAUNCHES_S / (time.time() - begun)))

    def replay():
        for i in range(turns * sets):
            launch(i % sets)

    if in_graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            replay()
        replay = graph.replay
    events, ticks, clocks = [], [], []
    begun, last = time.time(), joules()
    while time.time() - begun < WARM_S + MEASURED_S:
        replay()
        events.append((time.time() - begun, torch.cuda.Event(enable_timing=True)))
        events[-1][1].record()
        while len(events) > 2 and not events[-3][1].query():
            if (now := joules()) != last:
                ticks.append((time.time() - begun, now))
                last = now
            time.sleep(1e-3)
        clocks.append((time.time() - begun, clock_mhz()))
    torch.cuda.synchronize()
    ticks, events, clocks = ([x for x in y if x[0] > WARM_S] for y in (ticks, events, clocks))
    watts = (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])
    elapsed_ms = events[0][1].elapsed_time(events[-1][1])
    us = 1e3 * elapsed_ms / (len(events) - 1) / (turns * sets)
    return us, watts, sum(mhz for _, mhz in clocks) / len(clocks)


def cuda(body):
    """Return a launcher of a kernel: blocks, threads, and arguments after the first."""
    kernel = cupy.RawKernel('extern "C" __global__ void f(float*o,' + body, "f")
    out = cupy.zeros(1 << 20, cupy.float32)

    def launch(blocks, threads, *arguments):
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
        kernel((blocks,), (threads,), (out, *arguments), stream=stream)

    return launch


SPIN = (
    "long long c){long long t=clock64();float a=threadIdx.x;"
    "while(clock64()-t<c)for(int i=0;i<64;i++)a=fmaf(a,1.0001f,.5f);if(a==-1)o[0]=a;}"
)
SLEEP = "long long c){long long t=clock64();while(clock64()-t<c)__nanosleep(1000000);}"
INSTRUCTION = (
    "int n){float a[8];for(int j=0;j<8;j++)a[j]=(threadIdx.x*8+j)*.37f;"
    "unsigned m=threadIdx.x*2654435761u+blockIdx.x;float x=1.0001f+threadIdx.x*1e-9f;"
    "for(int k=0;k<n;k++)for(int i=0;i<8;i++)for(int j=0;j<8;j++){CODE}"
    "for(int j=0;j<8;j++)if(a[j]==-1)o[0]=a[j];}"
)
INSTRUCTIONS = {
    "fma.f32": "a[j]=fmaf(a[j],x,.5f);",
    "ex2.approx": 'asm volatile("ex2.approx.ftz.f32 %0,%0;":"+f"(a[j]));',
    "fma.bf16x2": 'asm volatile("fma.rn.bf16x2 %0,%0,%1,%0;":"+r"(((unsigned*)a)[j]):"r"(m));',
    "mad.lo.u32": 'asm volatile("mad.lo.u32 %0,%0,%1,%1;":"+r"(((unsigned*)a)[j]):"r"(m));',
}
READ = (
    "const uint4*p,long long n,int r){unsigned s=0;long long S=(long long)gridDim.x*blockDim.x;"
    "for(int k=0;k<r;k++)for(long long i=blockIdx.x*blockDim.x+threadIdx.x;i+7*S<n;i+=8*S){"
    "uint4 v[8];for(int j=0;j<8;j++)v[j]=__ldcg(p+i+j*S);"
    "for(int j=0;j<8;j++)s^=v[j].x^v[j].y^v[j].z^v[j].w;}if(s==0x12345)o[0]=s;}"
)
WRITE = (
    "uint4*p,long long n){long long i=blockIdx.x*blockDim.x+threadIdx.x;"
    "long long S=(long long)gridDim.x*blockDim.x;"
    "for(;i<n;i+=S){unsigned s=i*2654435761u;s^=s>>15;p[i]=make_uint4(s,s*40503u,~s*7u,s*97u);}}"
)
SHARED = (
    "int n,unsigned z){__shared__ uint4 q[2048];for(int i=threadIdx.x;i<2048;i+=blockDim.x){"
    "unsigned s=i*2654435761u+blockIdx.x;q[i]=make_uint4(s*z,(s*40503u)*z,(~s)*z,(s*97u)*z);}"
    "__syncthreads();unsigned s=0;for(int k=0;k<n;k++)for(int j=0;j<2;j++){"
    "uint4 v=q[(threadIdx.x+j*1024+k*32)&2047];s^=v.x^v.y^v.z^v.w;}if(s==0x12345)o[0]=s;}"
)
MMA = (
    "int n,unsigned z){unsigned a[4][4],b[2][2];TYPE c[8][4]={};"
    "unsigned s=(blockIdx.x*blockDim.x+threadIdx.x)*2654435761u+12345;"
    "auto R=[&](){s=s*1664525u+1013904223u;unsigned v=s^(s>>13);MASK return v*z;};"
    "for(int i=0;i<4;i++)for(int j=0;j<4;j++)a[i][j]=R();"
    "for(int i=0;i<2;i++)for(int j=0;j<2;j++)b[i][j]=R();for(int i=0;i<n;i++){\n#pragma unroll\n"
    'for(int j=0;j<8;j++)asm volatile("mma.sync.aligned.m16n8kDEPTH.row.col.FORMATS '
    '{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};":"+R"(c[j][0]),"+R"(c[j][1]),"+R"(c[j][2]),'
    '"+R"(c[j][3]):"r"(a[j&3][0]),"r"(a[j&3][1]),"r"(a[j&3][2]),"r"(a[j&3][3]),"r"(b[j>>2][0]),'
    '"r"(b[j>>2][1]));}float t=0;for(int j=0;j<8;j++)for(int i=0;i<4;i++)t+=c[j][i];'
    "if(t==1.5f)o[0]=t;}"
)


@triton.jit
def of_a_warp_group(
    a, b, out, times, m: tl.constexpr, n: tl.constexpr, k: tl.constexpr, kind: tl.constexpr
):
    """Multiply the same tiles in shared memory so many times."""
    left = tl.load(a + tl.arange(0, m)[:, None] * k + tl.arange(0, k)[None, :])
    right = tl.load(b + tl.arange(0, k)[:, None] + tl.arange(0, n)[None, :] * k)
    sums = tl.zeros((m, n), kind)
    for _ in range(times):
        sums = tl.dot(left, right, sums, out_dtype=kind)
    tl.store(out + tl.arange(0, m)[:, None] * n + tl.arange(0, n)[None, :], sums)


def random_matrix(fmt, rows, cols):
    if fmt == "int8":
        return torch.randint(-128, 128, (rows, cols), device="cuda", dtype=torch.int8)
    return torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16).to(FORMATS[fmt])


def bytes_of(data, count):
    """Return so many bytes on the device: `random`, `zeros`, or normal numbers of a format."""
    if data == "zeros":
        return torch.zeros(count, device="cuda", dtype=torch.int8)
    if data == "random":
        return torch.randint(-128, 128, (count,), device="cuda", dtype=torch.int8)
    return random_matrix(data, 1, count // FORMATS[data].itemsize).view(torch.int8).flatten()


def units():
    """Yield code, action, data, cores, actions of a launch and what was measured."""

    def row(code, action, data, cores, actions, kernel, *arguments):
        found = measured(lambda _: kernel(*arguments), in_graph=False)
        return code, action, data, cores, actions, found

    spin, sleep, cycles = cuda(SPIN), cuda(SLEEP), cupy.int64(8_000_000)
    for cores in (33, 66, CORES):
        yield row("spin", "instruction", "", cores, "", spin, cores, 128, cycles)
    yield row("spin of one warp", "instruction", "", CORES, "", spin, CORES, 32, cycles)
    yield row("sleep", "", "", CORES, "", sleep, CORES, 1024, cycles)
    for code, body in INSTRUCTIONS.items():
        kernel = cuda(INSTRUCTION.replace("CODE", body))
        for cores in (33, 66, CORES):
            actions = 64 * 4000 * cores * 1024
            yield row(code, "instruction", "random", cores, actions, kernel, cores, 1024, 4000)
    read, write, shared = cuda(READ), cuda(WRITE), cuda(SHARED)
    for data in ("random", "zeros", "bf16", "fp8"):
        held = cupy.from_dlpack(bytes_of(data, MEMORY_BYTES))
        for cores in (16, 33, 66, CORES):
            for code, most, times in (
                ("read the memory", MEMORY_BYTES, 1),
                ("read the L2", IN_L2_BYTES, 1000),
            ):
                step = 8 * 1024 * cores
                n = most // 16 // step * step
                given = cores, 1024, held, cupy.int64(n), times
                yield row(code, "byte", data, cores, 16 * n * times, read, *given)
    held = cupy.empty(MEMORY_BYTES, cupy.int8)
    given = 2 * CORES, 1024, held, cupy.int64(MEMORY_BYTES // 16)
    yield row("write the memory", "byte", "random", CORES, MEMORY_BYTES, write, *given)
    for data, factor in (("random", cupy.uint32(1)), ("zeros", cupy.uint32(0))):
        given, actions = (2 * CORES, 1024, 20_000, factor), 2 * CORES * 1024 * 16 * 40_000
        yield row("read the shared memory", "byte", data, CORES, actions, shared, *given)
        for fmt, depth in (("s8", 32), ("bf16", 16)):
            given, actions = (CORES, 256, 16_000, factor), 16 * 8 * depth * 8 * 16_000 * CORES * 8
            kernel = cuda(_mma(fmt, depth))
            yield row(f"mma.sync {fmt}", PRODUCT, data, CORES, actions, kernel, *given)
    for fmt in FORMATS:
        for cores in (33, 66, 88, 110, CORES):
            kernel, actions = _warp_groups(fmt, cores)
            yield row(f"wgmma {fmt} 128x256", PRODUCT, "random", cores, actions, kernel)
    for fmt, size in (("fp8", 8192), ("bf16", 8192), ("fp8", 4096)):
        for cores in (32, 44, 66, 88, 110, CORES):
            torch._C._set_sm_carveout_experimental(CORES - cores)
            found = measured(*product(fmt, size, size, size))
            yield f"product {fmt} {size}", PRODUCT, "random", cores, size**3, found
    torch._C._set_sm_carveout_experimental(None)


def _mma(fmt, depth):
    """Return the code of products of single warps, whose operands stay in registers."""
    if fmt == "s8":
        kind, register, formats, mask = "int", "r", "s32.s8.s8.s32", ""
    else:
        kind, register, formats = "float", "f", "f32.bf16.bf16.f32"
        mask = "v=(v&0x80ff80ffu)|0x3f003f00u;"
    body = MMA.replace("TYPE", kind).replace("+R", f"+{register}").replace("MASK", mask)
    return body.replace("DEPTH", str(depth)).replace("FORMATS", formats)


def _warp_groups(fmt, cores):
    """Return a launcher of products of warp groups, and its multiply-accumulates."""
    m, n, k, times = 128, 256, 128 // FORMATS[fmt].itemsize, 2000
    left, right = random_matrix(fmt, m, k), random_matrix(fmt, n, k)
    is_integer = fmt == "int8"
    out = torch.empty(m, n, device="cuda", dtype=torch.int32 if is_integer else torch.float32)
    sums = tl.int32 if is_integer else tl.float32
    grid = of_a_warp_group[(cores,)]
    return lambda: grid(
        left, right, out, times, m, n, k, sums, num_warps=8
    ), m * n * k * times * cores


def product(fmt, m, n, k):
    """Return a launcher of a product of the library, and its sets of operands."""
    sets = max(1, min(40, int(SETS_BYTES / (FORMATS[fmt].itemsize * (m * k + n * k))) + 1))
    left = [random_matrix(fmt, m, k) for _ in range(sets)]
    right = [random_matrix(fmt, n, k).t() for _ in range(sets)]
    if fmt == "int8":
        return lambda i: torch._int_mm(left[i], right[i]), sets
    if fmt == "bf16":
        return lambda i: left[i] @ right[i], sets
    one, fast = torch.ones((), device="cuda"), {"out_dtype": torch.bfloat16, "use_fast_accum": True}
    scaled = torch._scaled_mm
    return lambda i: scaled(left[i], right[i], scale_a=one, scale_b=one, **fast), sets


def attention(batch, heads, kv_heads, queries, keys, causal):
    """Return a launcher of attention of cuDNN, and its sets of operands."""
    sets = max(1, int(SETS_BYTES / (2 * batch * 128 * (heads * queries + 2 * kv_heads * keys))))
    sizes = ((heads, queries), (kv_heads, keys), (kv_heads, keys))
    held = [
        [random_matrix("bf16", batch * h * n, 128).view(batch, h, n, 128) for h, n in sizes]
        for _ in range(sets)
    ]

    def launch(i):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            functional.scaled_dot_product_attention(
                *held[i], is_causal=bool(causal), enable_gqa=heads != kv_heads
            )

    return launch, sets


def _of_one(function, held, i):
    return function(held[i])


def kernels():
    """Yield kind, shape and what was measured."""
    for fmt in FORMATS:
        for shape in PRODUCTS.split():
            yield f"gemm_{fmt}", shape, measured(*product(fmt, *map(int, shape.split("x"))))
    for shape in MATRICES.split():
        rows, cols = map(int, shape.split("x"))
        sets = max(1, int(SETS_BYTES / (2 * rows * cols)))
        held = [random_matrix("bf16", rows, cols) for _ in range(sets)]
        for name, function in FUNCTIONS.items():
            yield name, shape, measured(partial(_of_one, function, held), sets)
    for sizes in ATTENTION:
        name = "decode" if sizes[3] == 1 else "prefill"
        shape = "B{} H{} KV{} Sq{} Sk{} D128 causal{}".format(*sizes)
        yield f"attention_{name}_cudnn", shape, measured(*attention(*sizes))


def main():
    nvml.nvmlInit_v2()
    nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
    if "units" in sys.argv[1:]:
        print("code,action,data,cores,actions,us,watt,sm_mhz")
        for *what, (us, watts, mhz) in units():
            print(*what, f"{us:.3f}", f"{watts:.1f}", f"{mhz:.0f}", sep=",", flush=True)
    else:
        print("kind,shape,joule_per_iter,watt,us_per_iter,sm_mhz")
        for kind, shape, (us, watts, mhz) in kernels():
            print(
                kind,
                shape,
                f"{watts * us * 1e-6:.6g}",
                f"{watts:.1f},{us:.3f},{mhz:.0f}",
                sep=",",
                flush=True,
            )


if __name__ == "__main__":
    main()
