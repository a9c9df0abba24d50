// The outputs that f32 values can have: f32 as it is, binary16 and bfloat16 rounded to nearest, ties to even.
//
//     y = f16(x)   or   y = bf16(x)
//
// With integers only: no instruction that converts keeps the payload of every NaN, and some flush subnormals.
// The reference is crates/cvc-codec/src/ops/narrow.rs.

// The upper ten payload bits of a NaN are kept, the lowest set where they are all zero; 65,520 and more overflow.
static __device__ __forceinline__ u32 narrow_f16(u32 bits) {
    u32 sign = bits >> 16 & 0x8000;
    u32 magnitude = bits & 0x7fffffff;
    // Each case worked out, then one chosen: no branches. Rounding up may carry into the exponent, which is right.
    u32 normal = (magnitude - (112 << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    // Subnormal: the value in units of 2^-24. Where `drop` is beyond 25 there is nothing left.
    u32 fraction = (magnitude & 0x7fffff) | 0x800000;
    u32 drop = min(126 - min(magnitude >> 23, 112), 25);
    u32 subnormal = (fraction + (1 << (drop - 1)) - 1 + (fraction >> drop & 1)) >> drop;
    u32 payload = magnitude >> 13 & 0x3ff;
    u32 half = magnitude < 0x38800000 ? subnormal : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? 0x7c00 | (payload == 0 ? 1 : payload) : half;
    return sign | half;
}

static __device__ __forceinline__ u32 narrow_bf16(u32 bits) {
    u32 upper = bits >> 16;
    u32 nan = (upper & 0x7f) == 0 ? upper | 1 : upper;
    return (bits & 0x7fffffff) > 0x7f800000 ? nan : (bits + 0x7fff + (upper & 1)) >> 16;
}

struct F32 {
    static const u32 SIZE = 4;
    static __device__ __forceinline__ void pack(const u32 *bits, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) line[i] = bits[i];
    }
    static __device__ __forceinline__ void store(u64 address, u32 bits) { *(u32 *)address = bits; }
};

struct F16 {
    static const u32 SIZE = 2;
    static __device__ __forceinline__ void pack(const u32 *bits, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) line[i] = narrow_f16(bits[2 * i]) | narrow_f16(bits[2 * i + 1]) << 16;
    }
    static __device__ __forceinline__ void store(u64 address, u32 bits) { *(u16 *)address = (u16)narrow_f16(bits); }
};

struct Bf16 {
    static const u32 SIZE = 2;
    static __device__ __forceinline__ void pack(const u32 *bits, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) line[i] = narrow_bf16(bits[2 * i]) | narrow_bf16(bits[2 * i + 1]) << 16;
    }
    static __device__ __forceinline__ void store(u64 address, u32 bits) { *(u16 *)address = (u16)narrow_bf16(bits); }
};

// An op that loads f32 values and puts them out as one of those. A loader has
//     Raw<COUNT>                           what is loaded for COUNT values of a row
//     aligned<COUNT>(piece, place)         whether it can be loaded with accesses of full width
//     load<ALIGNED>(piece, place, raw)
//     values(piece, place, raw, bits)      the bits of their f32 values
template <class Loader, class Out>
struct Values {
    static const u32 SIZE = Out::SIZE;
    typedef typename Loader::template Raw<16 / SIZE> Loaded;

    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Loader::template aligned<16 / SIZE>(piece, at);
    }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Loaded &loaded) {
        Loader::template load<ALIGNED>(piece, at, loaded);
    }
    static __device__ __forceinline__ void finish(const Piece &piece, Place at, const Loaded &loaded, u32 *line) {
        u32 bits[16 / SIZE];
        Loader::values(piece, at, loaded, bits);
        Out::pack(bits, line);
    }
    static __device__ __forceinline__ void one(const Piece &piece, Place at, u64 address) {
        typename Loader::template Raw<1> raw;
        u32 bits[1];
        Loader::template load<false>(piece, at, raw);
        Loader::values(piece, at, raw, bits);
        Out::store(address, bits[0]);
    }
};
