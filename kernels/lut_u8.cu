// One byte for each value, looked up in a table of 256 bit patterns, which `aux` points to.
//
//     y[i] = table[x[i]]
//
// The reference is crates/cvc-codec/src/ops/lut_u8.rs. The table is a kilobyte and stays in the cache of every
// multiprocessor.

#include "shared.cuh"
#include "narrow.cuh"

struct Lut {
    template <u32 COUNT>
    using Raw = Bytes<COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Raw<COUNT>::aligned(source(piece, at, 1));
    }
    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Bytes<COUNT> &raw) {
        raw.template load<ALIGNED>(source(piece, at, 1));
    }
    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &piece, Place, const Bytes<COUNT> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = load_u32(piece.aux + 4 * raw.byte(i));
    }
};

typedef Values<Lut, F32> LutToF32;
typedef Values<Lut, F16> LutToF16;
typedef Values<Lut, Bf16> LutToBf16;

KERNEL(cvc_lut_u8_f32, LutToF32)
KERNEL(cvc_lut_u8_f16, LutToF16)
KERNEL(cvc_lut_u8_bf16, LutToBf16)
