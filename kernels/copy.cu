// Stored little-endian values become native ones: bytes of rows, wherever they begin. f32 can be narrowed on the way.
//
//     y[i] = x[i]
//
// The reference is crates/cvc-codec/src/ops/copy.rs. In `cvc_copy` a value is a byte: `dim` and `stride` are bytes.

#include "shared.cuh"
#include "narrow.cuh"

struct Copy {
    static const u32 SIZE = 1;
    typedef Bytes<16> Loaded;

    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Loaded::aligned(source(piece, at, 1));
    }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Loaded &loaded) {
        loaded.load<ALIGNED>(source(piece, at, 1));
    }
    static __device__ __forceinline__ void finish(const Piece &, Place, const Loaded &loaded, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) line[i] = loaded.words[i];
    }
    static __device__ __forceinline__ void one(const Piece &piece, Place at, u64 address) {
        *(u8 *)address = (u8)load_u8(source(piece, at, 1));
    }
};

struct CopyF32 {
    template <u32 COUNT>
    using Raw = Bytes<4 * COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Raw<COUNT>::aligned(source(piece, at, 4));
    }
    template <bool ALIGNED, u32 BYTES>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Bytes<BYTES> &raw) {
        raw.template load<ALIGNED>(source(piece, at, 4));
    }
    template <u32 BYTES>
    static __device__ __forceinline__ void values(const Piece &, Place, const Bytes<BYTES> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < BYTES / 4; i++) bits[i] = raw.words[i];
    }
};

typedef Values<CopyF32, F16> CopyF32ToF16;
typedef Values<CopyF32, Bf16> CopyF32ToBf16;

KERNEL(cvc_copy, Copy)
KERNEL(cvc_copy_f32_f16, CopyF32ToF16)
KERNEL(cvc_copy_f32_bf16, CopyF32ToBf16)
