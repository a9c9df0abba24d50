// Searching: how good each row of a stage can be at most for each query, the rows with the best bounds, and the values of those.
//
//     P = sum(q[i] * x[i])        s = sum(x[i] * x[i])        bound = A * P + slack(q) * B + C
//
// | rule | metric    | A           | B       | C         |
// |------|-----------|-------------|---------|-----------|
// | 0    | cosine    | 1 / sqrt(s) | 1       | 0         |
// | 1    | dot       | 1           | sqrt(s) | 0         |
// | 2    | distances | 2           | sqrt(s) | -keep * s |
//
// This is the one kernel that fuses products and sums (`fma.rn`): bounds may round as they like, and `crates/cvc-codec/src/filter.rs` says why no row is better than
// its bound all the same. A bound becomes a key, an integer that is larger for larger bounds; a row with values that have no bound gets the largest key.
//
// | entry             | a block does                            | launched with                                      |
// |-------------------|-----------------------------------------|----------------------------------------------------|
// | cvc_scan_bounds   | tiles of 64 rows and 16 queries, in turn | `count` tiles, `more` of them for the same queries |
// | cvc_scan_best     | queries in turn                         | `count` queries                                    |
// | cvc_scan_rows     | rows in turn                            | `count` rows                                       |
//
// Launched by `Launcher::search` in crates/cvc-cuda/src/launch.rs, on a stream on which the `Asked` and what it points to came before.
// Unlike kernels of ops these have memory of the block and barriers. The same in WGSL: shaders/scan_bounds.wgsl and scan_best.wgsl.

#include "shared.cuh"

// The host writes this: `Asked` in crates/cvc-cuda/src/launch.rs.
struct Asked {
    u64 decoded;     // address of the rows of the stage: f32, one after another
    u64 thresholds;  // address of a key for each query: smaller ones are dropped
    u64 slack;       // address of an f32 for each query
    u64 queries;     // address of their values, one query after another
    u64 keys;        // address of the keys: for each query those of all rows
    u64 best;        // address of the records: for each query the rows not dropped, the largest key thrown away, pairs of a row and its key
    u64 wanted;      // address of rows whose values are wanted
    u64 packed;      // address of these values
    u32 rows;        // of the stage
    u32 dim;
    u32 query_count;
    u32 rule;
    u32 minus_keep;  // bits of an f32
    u32 kept;        // pairs of a record
};

#define TILE_ROWS 64
#define TILE_QUERIES 16
#define DEPTH 16
// Words from one row of a tile to the next: neighbours are then in different banks.
#define PITCH 17

#define UNKNOWN 0xffffffff
#define DROPPED 0

static __device__ __forceinline__ u32 key_of(float bound) {
    u32 bits = __float_as_uint(bound);
    u32 magnitude = bits & 0x7fffffff;
    u32 key = magnitude == bits ? bits | 0x80000000 : ~bits;
    return magnitude >= 0x7f800000 ? UNKNOWN : key;
}

extern "C" __global__ void __launch_bounds__(THREADS) cvc_scan_bounds(const Asked *told, u32 count, u32 more) {
    __shared__ u32 tile[TILE_ROWS * PITCH];
    // For each of DEPTH columns the values of 16 queries.
    __shared__ float4 multipliers[DEPTH * TILE_QUERIES / 4];
    const Asked asked = *told;
    u32 lane = threadIdx.x % TILE_ROWS, part = threadIdx.x / TILE_ROWS;
    for (u32 number = blockIdx.x; number < count; number += gridDim.x) {
        u32 first_row = number % more * TILE_ROWS, first_query = number / more * TILE_QUERIES;
        float products[4] = {0, 0, 0, 0};
        float squares = 0;
        u32 largest = 0;
#pragma unroll 1
        for (u32 start = 0; start < asked.dim; start += DEPTH) {
            __syncthreads();
#pragma unroll
            for (u32 k = 0; k < TILE_ROWS * DEPTH / THREADS; k++) {
                u32 at = threadIdx.x + k * THREADS;
                u32 row = first_row + at / DEPTH, column = start + at % DEPTH;
                u32 bits = 0;
                if (row < asked.rows && column < asked.dim) bits = load_u32(asked.decoded + 4 * ((u64)row * asked.dim + column));
                tile[at / DEPTH * PITCH + at % DEPTH] = bits;
            }
            {
                u32 query = first_query + threadIdx.x % TILE_QUERIES, column = start + threadIdx.x / TILE_QUERIES;
                u32 bits = 0;
                if (query < asked.query_count && column < asked.dim) bits = load_u32(asked.queries + 4 * ((u64)query * asked.dim + column));
                ((u32 *)multipliers)[threadIdx.x] = bits;
            }
            __syncthreads();
#pragma unroll
            for (u32 column = 0; column < DEPTH; column++) {
                u32 bits = tile[lane * PITCH + column];
                largest = max(largest, bits & 0x7fffffff);
                float value = __uint_as_float(bits);
                float4 by = multipliers[column * (TILE_QUERIES / 4) + part];
                squares = __fmaf_rn(value, value, squares);
                products[0] = __fmaf_rn(by.x, value, products[0]);
                products[1] = __fmaf_rn(by.y, value, products[1]);
                products[2] = __fmaf_rn(by.z, value, products[2]);
                products[3] = __fmaf_rn(by.w, value, products[3]);
            }
        }
        u32 row = first_row + lane;
        if (row < asked.rows) {
            // The bits of 1e15, of 1e-30 and of 1e30: positive numbers are in the order of their bits.
            u32 bits = __float_as_uint(squares);
            bool known = largest < 0x58635fa9 && bits >= 0x0da24260 && bits <= 0x7149f2ca;
            float length = __fsqrt_rn(squares);
            float by = asked.rule == 2 ? 2.0f : 1.0f, slack_by = length, fixed = 0;
            if (asked.rule == 0) {
                by = __fdiv_rn(1.0f, length);
                slack_by = 1;
            }
            if (asked.rule == 2) fixed = __fmul_rn(__uint_as_float(asked.minus_keep), squares);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 query = first_query + part * 4 + i;
                if (query < asked.query_count) {
                    float slack = __uint_as_float(load_u32(asked.slack + 4 * (u64)query));
                    float bound = __fmaf_rn(by, products[i], __fmaf_rn(slack, slack_by, fixed));
                    u32 key = known ? key_of(bound) : UNKNOWN;
                    u32 threshold = load_u32(asked.thresholds + 4 * (u64)query);
                    *(u32 *)(asked.keys + 4 * ((u64)query * asked.rows + row)) = key < threshold ? DROPPED : key;
                }
            }
        }
    }
}

// The key that comes `kept`-th is found digit by digit, eight bits at a time, by counting; then the pairs are written in whatever order the threads come to it, and of rows
// with that very key any. If rows were thrown away, that key is as large as any of theirs.
extern "C" __global__ void __launch_bounds__(THREADS) cvc_scan_best(const Asked *told, u32 count, u32 more) {
    // How many keys have each digit, among those with the leading digits found so far.
    __shared__ u32 counts[256];
    // The digit, how many rows with it are to be kept, and how many rows there are.
    __shared__ u32 digit, left, total;
    __shared__ u32 above, alike;
    const Asked asked = *told;
    for (u32 query = blockIdx.x; query < count; query += gridDim.x) {
        u64 keys = asked.keys + 4 * (u64)query * asked.rows;
        u32 found = 0;
#pragma unroll 1
        for (u32 shift = 24; shift < 32; shift -= 8) {
            __syncthreads();
            counts[threadIdx.x] = 0;
            if (threadIdx.x == 0 && shift == 24) {
                left = asked.kept;
                above = 0;
                alike = 0;
            }
            __syncthreads();
#pragma unroll 1
            for (u32 row = threadIdx.x; row < asked.rows; row += THREADS) {
                u32 key = load_u32(keys + 4 * (u64)row);
                // Shifted twice: 32 bits at once are none.
                if (key != DROPPED && (key ^ found) >> shift >> 8 == 0) atomicAdd(&counts[key >> shift & 0xff], 1);
            }
            __syncthreads();
            if (threadIdx.x == 0) {
                if (shift == 24) {
                    u32 sum = 0;
#pragma unroll 1
                    for (u32 i = 0; i < 256; i++) sum += counts[i];
                    total = sum;
                }
                // Where there are too few, every digit is 0, and every key above that.
                u32 at = 255, wanted = left;
#pragma unroll 1
                while (at > 0 && counts[at] < wanted) wanted -= counts[at--];
                digit = at;
                left = wanted;
            }
            __syncthreads();
            found |= digit << shift;
        }
        u64 record = asked.best + 4 * (u64)query * (2 + 2 * asked.kept);
        if (threadIdx.x == 0) {
            *(u32 *)record = total;
            *(u32 *)(record + 4) = total > asked.kept ? found : DROPPED;
        }
        u32 places_above = asked.kept - left;
#pragma unroll 1
        for (u32 row = threadIdx.x; row < asked.rows; row += THREADS) {
            u32 key = load_u32(keys + 4 * (u64)row);
            u32 place = asked.kept;
            if (key > found) {
                place = atomicAdd(&above, 1);
            } else if (key == found && key != DROPPED) {
                u32 number = atomicAdd(&alike, 1);
                if (number < left) place = places_above + number;
            }
            if (place < asked.kept) {
                *(u32 *)(record + 8 + 8 * (u64)place) = row;
                *(u32 *)(record + 12 + 8 * (u64)place) = key;
            }
        }
    }
}

// packed[i] = decoded[wanted[i]]
extern "C" __global__ void __launch_bounds__(THREADS) cvc_scan_rows(const Asked *told, u32 count, u32 more) {
    const Asked asked = *told;
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        u64 row = load_u32(asked.wanted + 4 * (u64)i);
#pragma unroll 1
        for (u32 column = threadIdx.x; column < asked.dim; column += THREADS) {
            u32 bits = load_u32(asked.decoded + 4 * (row * asked.dim + column));
            *(u32 *)(asked.packed + 4 * ((u64)i * asked.dim + column)) = bits;
        }
    }
}
