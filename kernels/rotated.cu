// Codes of few bits for the values of a rotated row, a scale for each row, a centre for each dim.
//
//     y[i] = f32(f32(t[i] * scale) + centre[i])
//
// where t are the levels of the codes, rotated back: integers below 2^23. Two roundings: the product and the sum become `mul.rn` and
// `add.rn`, which no compiler may fuse. The reference is crates/cvc-codec/src/ops/rotated.rs.
//
// A block of values that are transformed has 2^k of them, at most 256, so whatever the dim, two launches do it:
//
// | kernel             | does                                                                    | from  | to          |
// |--------------------|-------------------------------------------------------------------------|-------|-------------|
// | cvc_rotated_levels | transforms the blocks of levels, times the signs of round 1             | codes | i16[rows][] |
// | cvc_rotated_f32 .. | puts them back in their places, transforms their blocks, times the      | i16   | destination |
// |                    | signs of round 0, scales them                                           |       |             |
//
// What is between the two has at most 127 * 2^8 and is in device memory of its own. The transform is that of Walsh and Hadamard; its
// steps may come in any order, since integers are exact. All rows of a piece are one list of values here, and a tile has TILE of it: whole blocks, as
// each begins at a multiple of its length. Wanted or not, a row is transformed as a whole.
//
// | field    | cvc_rotated_levels          | cvc_rotated_f32 ..                                                              |
// |----------|-----------------------------|---------------------------------------------------------------------------------|
// | `src`    | codes                       | i16                                                                             |
// | `dst`    | i16                         | destination                                                                     |
// | `aux`    | -                           | scales: f32[rows], at any address                                               |
// | `aux2`   | table: the centre, f32[stored dim]; then the signs of round 0 and of round 1, a bit for each value, 1 for plus, in words |||
// | `dim`    | values of a row             | those that are wanted                                                           |
// | `stride` | bytes of a row of codes     | bytes of a row of i16                                                           |
// | `scale`  | bits of a code: 4 or 1      | -                                                                               |

#include "shared.cuh"
#include "narrow.cuh"

// Values that a thread has at a time, and a block of threads. The host has the second in crates/cvc-cuda/src/launch.rs.
#define EACH 8
#define ROTATED_TILE 2048

// One word in 32 is left out, so that the words of a transposition are in different banks.
#define SHARED_WORDS (ROTATED_TILE + ROTATED_TILE / 32)

// Levels 8 to 15, a byte each; the others are their mirror image.
#define LOW_LEVELS 0x2c1f1206
#define HIGH_LEVELS 0x7f604b3a

static __device__ __forceinline__ u32 level(const Piece &piece, u32 row, u32 column) {
    u32 bits = piece.scale;
    // A row may have up to 2^30 values.
    u64 bit = (u64)column * bits;
    u32 code = load_u8(piece.src + (u64)row * piece.stride + (bit >> 3)) >> ((u32)bit & 7);
    if (bits == 1) return (code & 1) == 0 ? 0xffffffff : 1;
    bool negative = (code & 8) == 0;
    u32 magnitude = __byte_perm(LOW_LEVELS, HIGH_LEVELS, (negative ? ~code : code) & 7) & 0xff;
    return negative ? 0 - magnitude : magnitude;
}

// Values of a block, for rows of so many.
static __device__ __forceinline__ u32 block_of(u32 dim) { return min(dim & (0 - dim), 256); }

// `value` or its negative, as the bit of `column` says.
static __device__ __forceinline__ u32 with_sign(u32 value, u64 signs, u32 column) {
    u32 word = load_u32(signs + 4 * (u64)(column >> 5));
    return (word >> (column & 31) & 1) == 0 ? 0 - value : value;
}

// Number `i` of the values that a thread has when it takes steps of 2^SHIFT, counted in the tile.
template <u32 SHIFT>
static __device__ __forceinline__ u32 place_of_step(u32 i) {
    u32 low = threadIdx.x & ((1 << SHIFT) - 1);
    return (threadIdx.x - low) * EACH + (i << SHIFT) + low;
}

template <u32 SHIFT>
static __device__ __forceinline__ void steps(u32 *values, u32 block) {
#pragma unroll
    for (u32 step = 1; step < EACH; step *= 2) {
        if (step << SHIFT < block) {
#pragma unroll
            for (u32 i = 0; i < EACH; i++) {
                if ((i & step) == 0) {
                    u32 a = values[i], b = values[i + step];
                    values[i] = a + b;
                    values[i + step] = a - b;
                }
            }
        }
    }
}

template <u32 SHIFT>
static __device__ __forceinline__ void put(u32 *tile, const u32 *values) {
#pragma unroll
    for (u32 i = 0; i < EACH; i++) {
        u32 at = place_of_step<SHIFT>(i);
        tile[at + at / 32] = values[i];
    }
}

template <u32 SHIFT>
static __device__ __forceinline__ void get(const u32 *tile, u32 *values) {
#pragma unroll
    for (u32 i = 0; i < EACH; i++) {
        u32 at = place_of_step<SHIFT>(i);
        values[i] = tile[at + at / 32];
    }
}

// Transforms the blocks of a tile. A thread has consecutive values before, and every 64th after: neighbours of those of its neighbours.
static __device__ __forceinline__ void transform(u32 *tile, u32 *values, u32 block) {
    steps<0>(values, block);
    // The tile before this one has been read by all.
    __syncthreads();
    put<0>(tile, values);
    __syncthreads();
    get<3>(tile, values);
    steps<3>(values, block);
    put<3>(tile, values);
    __syncthreads();
    get<6>(tile, values);
    steps<6>(values, block);
}

extern "C" __global__ void __launch_bounds__(THREADS) cvc_rotated_levels(const Piece *pieces, u32 piece_count, u32 tile_count) {
    __shared__ u32 tile[SHARED_WORDS];
    for (u32 number = blockIdx.x; number < tile_count; number += gridDim.x) {
        const Piece piece = pieces[piece_of(pieces, piece_count, number)];
        u32 first = (number - piece.first_tile) * ROTATED_TILE;
        u32 count = piece.rows * piece.dim;
        u32 values[EACH];
        u32 start = first + threadIdx.x * EACH;
        Place at = place_of(piece, start);
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            values[i] = 0;
            if (start + i < count) values[i] = level(piece, at.row, at.column);
            at.column++;
            if (at.column == piece.dim) {
                at.column = 0;
                at.row++;
            }
        }
        transform(tile, values, block_of(piece.dim));
        u64 signs = piece.aux2 + 4 * ((u64)piece.dim + (piece.dim + 31) / 32);
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            u32 value = first + place_of_step<6>(i);
            if (value < count) {
                u32 column = place_of(piece, value).column;
                *(u16 *)(piece.dst + 2 * (u64)value) = (u16)with_sign(values[i], signs, column);
            }
        }
    }
}

static __device__ __forceinline__ u32 load_i16(u64 address) {
    u32 half;
    asm("ld.global.nc.u16 %0, [%1];" : "=r"(half) : "l"(address));
    return (half ^ 0x8000) - 0x8000;
}

template <class Out>
static __device__ __forceinline__ void finish_rows(const Piece *pieces, u32 piece_count, u32 tile_count, u32 *tile) {
    for (u32 number = blockIdx.x; number < tile_count; number += gridDim.x) {
        const Piece piece = pieces[piece_of(pieces, piece_count, number)];
        // Wanted or not.
        u32 dim = piece.stride / 2;
        u32 block = block_of(dim);
        u32 shift = 31 - __clz(block);
        u32 blocks = dim >> shift;
        u32 first = (number - piece.first_tile) * ROTATED_TILE;
        u32 values[EACH];
        u32 row = (first + threadIdx.x * EACH) / dim;
        u32 column = first + threadIdx.x * EACH - row * dim;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            values[i] = 0;
            u32 from = (column & (block - 1)) * blocks + (column >> shift);
            if (row < piece.rows) values[i] = load_i16(piece.src + (u64)row * piece.stride + 2 * (u64)from);
            column++;
            if (column == dim) {
                column = 0;
                row++;
            }
        }
        transform(tile, values, block);
        u64 signs = piece.aux2 + 4 * (u64)dim;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            u32 value = first + place_of_step<6>(i);
            row = value / dim;
            column = value - row * dim;
            if (row < piece.rows && column < piece.dim) {
                Bytes<4> scale;
                scale.load<false>(piece.aux + 4 * (u64)row);
                float t = __int2float_rn((int)with_sign(values[i], signs, column));
                float product = __fmul_rn(t, __uint_as_float(scale.words[0]));
                float sum = __fadd_rn(product, __uint_as_float(load_u32(piece.aux2 + 4 * (u64)column)));
                u64 place = (u64)row * piece.dim + column;
                Out::store(piece.dst + place * Out::SIZE, __float_as_uint(sum));
            }
        }
    }
}

#define ROTATED(name, out)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                   \
        name(const Piece *pieces, u32 piece_count, u32 tile_count) {                                        \
        __shared__ u32 tile[SHARED_WORDS];                                                                  \
        finish_rows<out>(pieces, piece_count, tile_count, tile);                                            \
    }

ROTATED(cvc_rotated_f32, F32)
ROTATED(cvc_rotated_f16, F16)
ROTATED(cvc_rotated_bf16, Bf16)
