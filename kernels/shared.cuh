// What every kernel shares: the pieces it is given, the loop over them, loads from any address.
//
// A launch decodes a list of pieces: rows of one op and one output, wherever they come from and go to. So thousands
// of single rows are one launch, and so is one chunk. The loop, as one would write it first:
//
//     for piece in pieces { for row in piece { for column in row { dst[row][column] = op(src[row][column]) } } }
//
// and what was changed:
//
// 1. The values of a piece are taken in groups that fill one aligned 16-byte line of the destination, one group for
//    each thread, neighbouring threads taking neighbouring lines: every store of a warp is 512 bytes in a row. The
//    destination is the larger side of every op that widens, so it decides; the source is loaded with the widest
//    access that its address allows.
// 2. FLIGHT groups of a thread are loaded before the first of them is finished, THREADS groups apart.
// 3. THREADS * FLIGHT groups are a tile. Blocks take tiles in turn (a grid-stride loop) and find the piece of a tile by
//    a search in the list, the same way for all threads of the block.
// 4. What does not fit that comes after it: groups whose source is not aligned like the destination, shifted into place;
//    groups that are cut by an end of the piece or of a row, value by value.
//
// The host lays sources so that most groups are aligned; they may begin at any byte. A load may take bytes beside those that are wanted: of the aligned four-byte word that
// one of them is in, and of the word after that.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// The host has the same numbers in crates/cvc-cuda/src/launch.rs; a test reads these lines and compares.
#define THREADS 256
#define FLIGHT 4

// Some rows and where they go. The host writes these: `Piece` in crates/cvc-cuda/src/launch.rs.
struct Piece {
    u64 src;         // address of the first value of the first row, in the first source
    u64 dst;         // address of its place in the destination; a multiple of the size of a value
    u64 aux;         // address of what the op needs beside the source, see there
    u64 aux2;        // a second such address
    u32 rows;        // at least one
    u32 dim;         // values of a row that are wanted, at least one; rows * dim is below 2^31
    u32 stride;      // bytes from one row to the next, in the first source
    u32 first_tile;  // tiles of all pieces before this one
    u32 scale;       // bits of an f32; of rotated rows, bits of a code
    u32 min;         // bits of an f32
};

// The signature of every kernel.
#define KERNEL(name, op)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                   \
        name(const Piece *pieces, u32 piece_count, u32 tile_count) {                                        \
        run<op>(pieces, piece_count, tile_count);                                                           \
    }

// Sources do not change while a kernel runs, which `.nc` says.
static __device__ __forceinline__ u32 load_u8(u64 address) {
    u32 byte;
    asm("ld.global.nc.u8 %0, [%1];" : "=r"(byte) : "l"(address));
    return byte;
}

static __device__ __forceinline__ u32 load_u32(u64 address) {
    u32 word;
    asm("ld.global.nc.u32 %0, [%1];" : "=r"(word) : "l"(address));
    return word;
}

static __device__ __forceinline__ void store_line(u64 address, const u32 *line) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(address), "r"(line[0]), "r"(line[1]), "r"(line[2]), "r"(line[3])
                 : "memory");
}

// COUNT bytes, the first in the lowest byte of the first word.
template <u32 COUNT>
struct Bytes {
    static const u32 WORDS = COUNT / 4;
    // What one access takes.
    static const u32 WIDTH = COUNT < 16 ? COUNT : 16;
    u32 words[WORDS];

    static __device__ __forceinline__ bool aligned(u64 address) { return address % WIDTH == 0; }

    // From an address that is `aligned`, or from any.
    template <bool ALIGNED>
    __device__ __forceinline__ void load(u64 address) {
        if (ALIGNED) {
#pragma unroll
            for (u32 i = 0; i < WORDS; i += WIDTH / 4) {
                u64 at = address + 4 * i;
                if (WIDTH == 4) words[i] = load_u32(at);
                if (WIDTH == 8) asm("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(words[i]), "=r"(words[(i + 1) % WORDS]) : "l"(at));
                if (WIDTH == 16) {
                    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                        : "=r"(words[i]), "=r"(words[(i + 1) % WORDS]), "=r"(words[(i + 2) % WORDS]), "=r"(words[(i + 3) % WORDS])
                        : "l"(at));
                }
            }
            return;
        }
        // Each word is cut out of two that are aligned.
        u64 first = address & ~3ull;
        u32 shift = 8 * (u32)(address & 3);
        u32 low = load_u32(first);
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) {
            u32 high = load_u32(first + 4 * (i + 1));
            words[i] = __funnelshift_r(low, high, shift);
            low = high;
        }
    }

    __device__ __forceinline__ u32 byte(u32 i) const { return words[i / 4] >> 8 * (i % 4) & 0xff; }
    __device__ __forceinline__ u32 half(u32 i) const { return words[i / 2] >> 16 * (i % 2) & 0xffff; }
};

template <>
struct Bytes<1> {
    u32 only;
    static __device__ __forceinline__ bool aligned(u64) { return true; }
    template <bool ALIGNED>
    __device__ __forceinline__ void load(u64 address) { only = load_u8(address); }
    __device__ __forceinline__ u32 byte(u32) const { return only; }
};

template <>
struct Bytes<2> {
    u32 pair;
    static __device__ __forceinline__ bool aligned(u64) { return true; }
    template <bool ALIGNED>
    __device__ __forceinline__ void load(u64 address) { pair = load_u8(address) | load_u8(address + 1) << 8; }
    __device__ __forceinline__ u32 byte(u32 i) const { return pair >> 8 * i & 0xff; }
    __device__ __forceinline__ u32 half(u32) const { return pair; }
};

// Where a value stands.
struct Place {
    u32 row, column;
};

static __device__ __forceinline__ Place place_of(const Piece &piece, u32 value) {
    // A division costs some twenty instructions, and most large pieces are one long row.
    u32 row = piece.rows == 1 ? 0 : value / piece.dim;
    return Place{row, value - row * piece.dim};
}

// The address of a value in the first source, where values have `size` bytes.
static __device__ __forceinline__ u64 source(const Piece &piece, Place at, u32 size) {
    return piece.src + (u64)at.row * piece.stride + (u64)at.column * size;
}

// The last piece whose first tile is at or before `tile`.
static __device__ __forceinline__ u32 piece_of(const Piece *pieces, u32 count, u32 tile) {
    u32 low = 0, high = count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (pieces[middle].first_tile <= tile) low = middle;
        else high = middle;
    }
    return low;
}

// An op has
//     SIZE                                 bytes of an output value
//     Loaded                               what is loaded for a group of 16 / SIZE values of a row
//     aligned(piece, place)                whether it can be loaded with accesses of full width
//     load<ALIGNED>(piece, place, loaded)
//     finish(piece, place, loaded, line)   makes the 16 bytes
//     one(piece, place, address)           does one value from load to store
template <class Op>
static __device__ __forceinline__ void run(const Piece *pieces, u32 piece_count, u32 tile_count) {
    const u32 GROUP = 16 / Op::SIZE;
    for (u32 tile = blockIdx.x; tile < tile_count; tile += gridDim.x) {
        const Piece piece = pieces[piece_of(pieces, piece_count, tile)];
        u32 values = piece.rows * piece.dim;
        // Values between the start of the line that the piece begins in, and the piece. Values are counted from that start
        // on, so that nothing is negative.
        u32 lead = (u32)(piece.dst % 16) / Op::SIZE;
        u32 group = (tile - piece.first_tile) * (THREADS * FLIGHT) + threadIdx.x;
        typename Op::Loaded loaded[FLIGHT];
        u32 done = 0;
#pragma unroll
        for (u32 k = 0; k < FLIGHT; k++) {
            u32 start = (group + k * THREADS) * GROUP;
            Place at = place_of(piece, start - lead);
            bool whole = start >= lead && start + GROUP <= values + lead && at.column + GROUP <= piece.dim;
            if (whole && Op::aligned(piece, at)) {
                done |= 1 << k;
                Op::template load<true>(piece, at, loaded[k]);
            }
        }
#pragma unroll
        for (u32 k = 0; k < FLIGHT; k++) {
            if (done & 1 << k) {
                u32 start = (group + k * THREADS) * GROUP;
                u32 line[4];
                Op::finish(piece, place_of(piece, start - lead), loaded[k], line);
                store_line(piece.dst + (u64)(start - lead) * Op::SIZE, line);
            }
        }
        if (done == (1 << FLIGHT) - 1) continue;
        // What is left: groups that lie askew, and those that an end cuts.
#pragma unroll 1
        for (u32 k = 0; k < FLIGHT; k++) {
            u32 start = (group + k * THREADS) * GROUP;
            if (done & 1 << k || start >= values + lead) continue;
            Place at = place_of(piece, start - lead);
            if (start >= lead && start + GROUP <= values + lead && at.column + GROUP <= piece.dim) {
                u32 line[4];
                typename Op::Loaded askew;
                Op::template load<false>(piece, at, askew);
                Op::finish(piece, at, askew, line);
                store_line(piece.dst + (u64)(start - lead) * Op::SIZE, line);
                continue;
            }
            u32 end = min(start + GROUP, values + lead);
#pragma unroll 1
            for (u32 value = max(start, lead) - lead; value < end - lead; value++) {
                Op::one(piece, place_of(piece, value), piece.dst + (u64)value * Op::SIZE);
            }
        }
    }
}
