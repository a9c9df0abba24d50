// One byte for each value, and a scale and a minimum: of the chunk, of its column, or of its row.
//
//     y[i] = f32(f32(x[i] * scale) + min)
//
// Two roundings: the product and the sum become `mul.rn` and `add.rn`, which no compiler may fuse.
// The reference is crates/cvc-codec/src/ops/affine_u8.rs.
//
// | form  | scale                     | min                        |
// |-------|---------------------------|----------------------------|
// | chunk | `scale` of the piece      | `min` of the piece         |
// | dim   | `aux`: f32[dim]           | `aux2`: f32[dim]           |
// | row   | `aux`: f32[rows]          | `aux2`: f32[rows]          |

#include "shared.cuh"
#include "narrow.cuh"

static __device__ __forceinline__ u32 affine(u32 code, u32 scale, u32 min) {
    float product = __fmul_rn(__uint2float_rn(code), __uint_as_float(scale));
    return __float_as_uint(__fadd_rn(product, __uint_as_float(min)));
}

template <u32 COUNT>
struct Codes {
    Bytes<COUNT> codes;
};

struct Chunk {
    template <u32 COUNT>
    using Raw = Codes<COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Bytes<COUNT>::aligned(source(piece, at, 1));
    }
    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Codes<COUNT> &raw) {
        raw.codes.template load<ALIGNED>(source(piece, at, 1));
    }
    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &piece, Place, const Codes<COUNT> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = affine(raw.codes.byte(i), piece.scale, piece.min);
    }
};

template <u32 COUNT>
struct CodesOfDims {
    Bytes<COUNT> codes;
    Bytes<4 * COUNT> scale, min;
};

struct Dim {
    template <u32 COUNT>
    using Raw = CodesOfDims<COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Bytes<COUNT>::aligned(source(piece, at, 1)) &&
               Bytes<4 * COUNT>::aligned(piece.aux | piece.aux2 | 4 * (u64)at.column);
    }
    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, CodesOfDims<COUNT> &raw) {
        raw.codes.template load<ALIGNED>(source(piece, at, 1));
        raw.scale.template load<ALIGNED>(piece.aux + 4 * (u64)at.column);
        raw.min.template load<ALIGNED>(piece.aux2 + 4 * (u64)at.column);
    }
    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &, Place, const CodesOfDims<COUNT> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = affine(raw.codes.byte(i), raw.scale.words[i], raw.min.words[i]);
    }
};

template <u32 COUNT>
struct CodesOfRow {
    Bytes<COUNT> codes;
    Bytes<4> scale, min;
};

struct Row {
    template <u32 COUNT>
    using Raw = CodesOfRow<COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Bytes<COUNT>::aligned(source(piece, at, 1)) && Bytes<4>::aligned(piece.aux | piece.aux2);
    }
    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, CodesOfRow<COUNT> &raw) {
        raw.codes.template load<ALIGNED>(source(piece, at, 1));
        raw.scale.template load<ALIGNED>(piece.aux + 4 * (u64)at.row);
        raw.min.template load<ALIGNED>(piece.aux2 + 4 * (u64)at.row);
    }
    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &, Place, const CodesOfRow<COUNT> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = affine(raw.codes.byte(i), raw.scale.words[0], raw.min.words[0]);
    }
};

typedef Values<Chunk, F32> ChunkToF32;
typedef Values<Chunk, F16> ChunkToF16;
typedef Values<Chunk, Bf16> ChunkToBf16;
typedef Values<Dim, F32> DimToF32;
typedef Values<Dim, F16> DimToF16;
typedef Values<Dim, Bf16> DimToBf16;
typedef Values<Row, F32> RowToF32;
typedef Values<Row, F16> RowToF16;
typedef Values<Row, Bf16> RowToBf16;

KERNEL(cvc_affine_u8_chunk_f32, ChunkToF32)
KERNEL(cvc_affine_u8_chunk_f16, ChunkToF16)
KERNEL(cvc_affine_u8_chunk_bf16, ChunkToBf16)
KERNEL(cvc_affine_u8_dim_f32, DimToF32)
KERNEL(cvc_affine_u8_dim_f16, DimToF16)
KERNEL(cvc_affine_u8_dim_bf16, DimToBf16)
KERNEL(cvc_affine_u8_row_f32, RowToF32)
KERNEL(cvc_affine_u8_row_f16, RowToF16)
KERNEL(cvc_affine_u8_row_bf16, RowToBf16)
