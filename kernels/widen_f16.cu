// Binary16 to f32, exactly; NaN payloads kept, never quieted.
//
//     y[i] = the f32 with the value of the half x[i]
//
// With integers: the instruction that converts does not promise what becomes of a NaN.
// The reference is crates/cvc-codec/src/ops/widen_f16.rs.

#include "shared.cuh"
#include "narrow.cuh"

static __device__ __forceinline__ u32 widen(u32 half) {
    u32 magnitude = half & 0x7fff;
    u32 bits = (magnitude << 13) + (112 << 23);
    if (magnitude >= 0x7c00) bits += 112 << 23;
    if (magnitude < 0x400) {
        // Zero, or fraction * 2^-24: the leading one moves to the implicit place.
        u32 shift = __clz(magnitude) - 21;
        bits = magnitude == 0 ? 0 : (113 - shift) << 23 | (magnitude << shift & 0x3ff) << 13;
    }
    return (half & 0x8000) << 16 | bits;
}

struct WidenF16 {
    template <u32 COUNT>
    using Raw = Bytes<2 * COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Raw<COUNT>::aligned(source(piece, at, 2));
    }
    template <bool ALIGNED, u32 BYTES>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Bytes<BYTES> &raw) {
        raw.template load<ALIGNED>(source(piece, at, 2));
    }
    template <u32 BYTES>
    static __device__ __forceinline__ void values(const Piece &, Place, const Bytes<BYTES> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < BYTES / 2; i++) bits[i] = widen(raw.half(i));
    }
};

typedef Values<WidenF16, F32> WidenF16ToF32;
typedef Values<WidenF16, Bf16> WidenF16ToBf16;

KERNEL(cvc_widen_f16_f32, WidenF16ToF32)
KERNEL(cvc_widen_f16_bf16, WidenF16ToBf16)
