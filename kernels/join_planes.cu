// Byte planes become the values whose bytes they hold.
//
//     byte p of y[i] = p-th plane[i]
//
// `aux` points to one `Plane` for each byte of a value, low byte first: planes may lie in different sources.
// The reference is crates/cvc-codec/src/ops/join_planes.rs.

#include "shared.cuh"
#include "narrow.cuh"

// The host writes these: `Plane` in crates/cvc-cuda/src/launch.rs.
struct Plane {
    u64 src;     // address of the first byte of the first row
    u64 stride;  // bytes from one row to the next
};

template <u32 PLANES, u32 COUNT>
struct Planes {
    Bytes<COUNT> planes[PLANES];

    static __device__ __forceinline__ u64 address(const Piece &piece, Place at, u32 p) {
        const Plane *plane = (const Plane *)piece.aux + p;
        return plane->src + at.row * plane->stride + at.column;
    }
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        u64 any = 0;
#pragma unroll
        for (u32 p = 0; p < PLANES; p++) any |= address(piece, at, p);
        return Bytes<COUNT>::aligned(any);
    }
    template <bool ALIGNED>
    __device__ __forceinline__ void load(const Piece &piece, Place at) {
#pragma unroll
        for (u32 p = 0; p < PLANES; p++) planes[p].template load<ALIGNED>(address(piece, at, p));
    }

    // Bytes first .. first + 4 of value i.
    __device__ __forceinline__ u32 word(u32 i, u32 first) const {
        u32 word = 0;
#pragma unroll
        for (u32 p = 0; p < 4; p++) word |= planes[first + p].byte(i) << 8 * p;
        return word;
    }
};

struct JoinF32 {
    template <u32 COUNT>
    using Raw = Planes<4, COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Planes<4, COUNT>::aligned(piece, at);
    }
    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Planes<4, COUNT> &raw) {
        raw.template load<ALIGNED>(piece, at);
    }
    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &, Place, const Planes<4, COUNT> &raw, u32 *bits) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = raw.word(i, 0);
    }
};

struct Join2 {
    static const u32 SIZE = 2;
    typedef Planes<2, 8> Loaded;

    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Loaded::aligned(piece, at);
    }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Loaded &loaded) {
        loaded.load<ALIGNED>(piece, at);
    }
    static __device__ __forceinline__ void finish(const Piece &, Place, const Loaded &loaded, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            line[i] = loaded.planes[0].byte(2 * i) | loaded.planes[1].byte(2 * i) << 8 |
                      loaded.planes[0].byte(2 * i + 1) << 16 | loaded.planes[1].byte(2 * i + 1) << 24;
        }
    }
    static __device__ __forceinline__ void one(const Piece &piece, Place at, u64 address) {
        Planes<2, 1> loaded;
        loaded.load<false>(piece, at);
        *(u16 *)address = (u16)(loaded.planes[0].byte(0) | loaded.planes[1].byte(0) << 8);
    }
};

struct Join8 {
    static const u32 SIZE = 8;
    typedef Planes<8, 2> Loaded;

    static __device__ __forceinline__ bool aligned(const Piece &piece, Place at) {
        return Loaded::aligned(piece, at);
    }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const Piece &piece, Place at, Loaded &loaded) {
        loaded.load<ALIGNED>(piece, at);
    }
    static __device__ __forceinline__ void finish(const Piece &, Place, const Loaded &loaded, u32 *line) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) line[i] = loaded.word(i / 2, i % 2 * 4);
    }
    static __device__ __forceinline__ void one(const Piece &piece, Place at, u64 address) {
        Planes<8, 1> loaded;
        loaded.load<false>(piece, at);
        *(u64 *)address = loaded.word(0, 0) | (u64)loaded.word(0, 4) << 32;
    }
};

typedef Values<JoinF32, F32> Join4;
typedef Values<JoinF32, F16> JoinF32ToF16;
typedef Values<JoinF32, Bf16> JoinF32ToBf16;

KERNEL(cvc_join_planes_2, Join2)
KERNEL(cvc_join_planes_4, Join4)
KERNEL(cvc_join_planes_8, Join8)
KERNEL(cvc_join_planes_f32_f16, JoinF32ToF16)
KERNEL(cvc_join_planes_f32_bf16, JoinF32ToBf16)
