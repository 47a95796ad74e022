"""What kernels that are written for a group of calls call, in CUDA: packs, sums over threads."""

PREAMBLE = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>

#ifndef INFINITY  // which the compiler at run time does not know
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

template <typename T> __device__ T xpnn_add(T a, T b) { return a + b; }
template <typename T> __device__ T xpnn_max(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ T xpnn_min(T a, T b) { return a < b || a != a ? a : b; }
template <typename T> __device__ T xpnn_sign(T a) { return a != a ? a : T((a > 0) - (a < 0)); }

template <typename T, int N> struct alignas(sizeof(T) * N) xpnn_pack { T items[N]; };

template <int N, typename T> __device__ xpnn_pack<T, N> xpnn_load(const T* from, bool aligned) {
    if (aligned) return *reinterpret_cast<const xpnn_pack<T, N>*>(from);
    xpnn_pack<T, N> pack;
    for (int k = 0; k < N; ++k) pack.items[k] = from[k];
    return pack;
}

template <int N, typename T>
__device__ void xpnn_store(T* to, const xpnn_pack<T, N>& pack, bool aligned) {
    if (aligned) *reinterpret_cast<xpnn_pack<T, N>*>(to) = pack;
    else
        for (int k = 0; k < N; ++k) to[k] = pack.items[k];
}

template <typename T> __device__ T xpnn_over_warp(T value, T (*both)(T, T)) {
    for (int other = 16; other; other /= 2)
        value = both(value, __shfl_xor_sync(0xffffffffu, value, other));
    return value;
}

template <typename T> __device__ T xpnn_over_warps(T value) {
    __shared__ T of_warps[8][33];
    of_warps[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    T total = 0;
    for (int other = 0; other < 8; ++other) total += of_warps[other][threadIdx.x];
    __syncthreads();
    return total;
}

template <typename T> __device__ T xpnn_over_block(T value, T (*both)(T, T), T none) {
    __shared__ T of_warps[32];
    value = xpnn_over_warp(value, both);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? of_warps[threadIdx.x % 32] : none;
    value = xpnn_over_warp(value, both);
    __syncthreads();
    return value;
}

template <typename T, typename U>
__device__ void xpnn_columns(const T* rows, U* target, const int count, const int row) {
    __shared__ T of_lanes[32][33];
    const int j = blockIdx.x * 32 + threadIdx.x;
    T total = 0;
    if (j < row)
        for (int r = threadIdx.y; r < count; r += 32) total += rows[(long long)r * row + j];
    of_lanes[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    total = xpnn_over_warp(of_lanes[threadIdx.x][threadIdx.y], xpnn_add<T>);
    const int column = blockIdx.x * 32 + threadIdx.y;
    if (threadIdx.x == 0 && column < row) target[column] = total;
}
"""
