// Bfloat16 to f32, whose upper half it is.
//
//     bits(y[i]) = bits(x[i]) << 16
//
// The reference is crates/cvc-codec/src/ops/widen_bf16.rs.

#include "shared.cuh"
#include "narrow.cuh"

struct WidenBf16 {
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
        for (u32 i = 0; i < BYTES / 2; i++) bits[i] = raw.half(i) << 16;
    }
};

typedef Values<WidenBf16, F32> WidenBf16ToF32;
typedef Values<WidenBf16, F16> WidenBf16ToF16;

KERNEL(cvc_widen_bf16_f32, WidenBf16ToF32)
KERNEL(cvc_widen_bf16_f16, WidenBf16ToF16)
