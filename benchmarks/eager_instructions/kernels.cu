// The algorithms of PyTorch's eager kernels over bf16 rows, to count what they take an element:
// softmax with a row in registers, norms with a row for a block of 128 threads, gelu with the error
// function, silu_mul with approximate division. Structure after aten/src/ATen/native/cuda; own text.

using bf16 = unsigned short;

struct alignas(8) Four { bf16 at[4]; };
struct alignas(16) Eight { bf16 at[8]; };

__device__ __forceinline__ float wide(bf16 x) { return __uint_as_float(unsigned(x) << 16); }

__device__ __forceinline__ bf16 narrow(float x) {
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(x));
  return result;
}

struct Largest { __device__ float operator()(float a, float b) const { return fmaxf(a, b); } };
struct Sum { __device__ float operator()(float a, float b) const { return a + b; } };

template <class Merge>
__device__ float over_warp(float x, Merge merge) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    x = merge(x, __shfl_xor_sync(0xffffffff, x, offset));
  return x;
}

template <class Merge>
__device__ float over_block(float* shared, float x, Merge merge, float neutral) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  x = over_warp(x, merge);
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = threadIdx.x < blockDim.x / 32 ? shared[lane] : neutral;
  if (warp == 0) {
    x = over_warp(x, merge);
    if (lane == 0) shared[0] = x;
  }
  __syncthreads();
  x = shared[0];
  __syncthreads();
  return x;
}

template <int own>
__device__ void softmax(bf16* out, const bf16* in, long cols) {
  extern __shared__ float shared[];
  float x[own], largest = -3.4e38f, sum = 0;
  in += long(blockIdx.x) * cols;
  out += long(blockIdx.x) * cols;
#pragma unroll
  for (int i = 0; i < own; i++) {
    const long col = threadIdx.x + i * blockDim.x;
    if (col < cols) largest = fmaxf(largest, x[i] = wide(in[col]));
  }
  largest = over_block(shared, largest, Largest(), -3.4e38f);
#pragma unroll
  for (int i = 0; i < own; i++)
    if (threadIdx.x + i * blockDim.x < cols) sum += expf(x[i] - largest);
  sum = over_block(shared, sum, Sum(), 0.f);
#pragma unroll
  for (int i = 0; i < own; i++) {
    const long col = threadIdx.x + i * blockDim.x;
    if (col < cols) out[col] = narrow(expf(x[i] - largest) / sum);
  }
}

extern "C" __global__ void softmax_4(bf16* out, const bf16* in, long cols) { softmax<4>(out, in, cols); }
extern "C" __global__ void softmax_8(bf16* out, const bf16* in, long cols) { softmax<8>(out, in, cols); }

struct Moments { float mean, squares, count; };

__device__ __forceinline__ Moments with(Moments m, float x) {
  const float delta = x - m.mean, count = m.count + 1.f, mean = m.mean + delta * (1.f / count);
  return {mean, m.squares + delta * (x - mean), count};
}

__device__ __forceinline__ Moments merged(Moments a, Moments b) {
  const float delta = b.mean - a.mean, count = a.count + b.count;
  if (!(count > 0)) return {0, 0, count};
  const float one = 1.f / count, of_a = a.count * one, of_b = b.count * one;
  return {of_a * a.mean + of_b * b.mean, a.squares + b.squares + delta * delta * a.count * of_b, count};
}

template <bool is_centered>
__device__ void norm(int cols, float epsilon, const bf16* in, float* mean, float* root, bf16* out) {
  extern __shared__ float shared[];
  const Four* x = (const Four*)(in + long(blockIdx.x) * cols);
  Four* y = (Four*)(out + long(blockIdx.x) * cols);
  const int threads = blockDim.x * blockDim.y, thread = threadIdx.x + threadIdx.y * blockDim.x;
  Moments m = {0, 0, 0};
  for (int i = thread; i < cols / 4; i += threads) {
    const Four four = x[i];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const float one = wide(four.at[j]);
      if (is_centered) m = with(m, one); else m.squares += one * one;
    }
  }
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float squares = __shfl_down_sync(0xffffffff, m.squares, offset);
    if (is_centered)
      m = merged(m, {__shfl_down_sync(0xffffffff, m.mean, offset), squares,
                     __shfl_down_sync(0xffffffff, m.count, offset)});
    else
      m.squares += squares;
  }
  float* counts = shared + blockDim.y;
  for (int offset = blockDim.y / 2; offset > 0; offset /= 2) {
    if (threadIdx.x == 0 && threadIdx.y >= offset && threadIdx.y < 2 * offset) {
      const int to = threadIdx.y - offset;
      shared[2 * to] = m.mean;
      shared[2 * to + 1] = m.squares;
      counts[to] = m.count;
    }
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y < offset) {
      const Moments other = {shared[2 * threadIdx.y], shared[2 * threadIdx.y + 1], counts[threadIdx.y]};
      if (is_centered) m = merged(m, other); else m.squares += other.squares;
    }
    __syncthreads();
  }
  if (thread == 0) {
    shared[0] = m.mean;
    shared[1] = m.squares / float(cols);
  }
  __syncthreads();
  const float center = shared[0], factor = rsqrtf(shared[1] + epsilon);
  for (int i = thread; i < cols / 4; i += threads) {
    const Four four = x[i];
    Four result;
#pragma unroll
    for (int j = 0; j < 4; j++)
      result.at[j] = narrow(factor * (is_centered ? wide(four.at[j]) - center : wide(four.at[j])));
    y[i] = result;
  }
  if (thread == 0) {
    mean[blockIdx.x] = center;
    root[blockIdx.x] = factor;
  }
}

extern "C" __global__ void layernorm(int cols, float epsilon, const bf16* __restrict__ in, float* mean,
                                     float* root, bf16* out) {
  norm<true>(cols, epsilon, in, mean, root, out);
}

extern "C" __global__ void rmsnorm(int cols, float epsilon, const bf16* __restrict__ in, float* mean,
                                   float* root, bf16* out) {
  norm<false>(cols, epsilon, in, mean, root, out);
}

extern "C" __global__ void gelu(Eight* out, const Eight* in) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const Eight x = in[i];
  Eight y;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float one = wide(x.at[j]);
    y.at[j] = narrow(one * 0.5f * (1.f + erff(one * 0.70710678f)));
  }
  out[i] = y;
}

extern "C" __global__ void silu_mul(Eight* out, const Eight* in, const Eight* with) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const Eight x = in[i], z = with[i];
  Eight y;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float one = wide(x.at[j]);
    float share;
    asm("div.full.f32 %0, %1, %2;" : "=f"(share) : "f"(one), "f"(1.f + __expf(-one)));
    y.at[j] = narrow(share * wide(z.at[j]));
  }
  out[i] = y;
}
