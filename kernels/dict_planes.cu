// Four byte planes of f32 values, each a dictionary and codes that are its indexes, packed most significant bit first.
//
//     bits(y[i]) = d0[c0[i]] | d1[c1[i]] << 8 | d2[c2[i]] << 16 | d3[c3[i]] << 24
//
// `aux` points to four `Dictionary`; the host has checked the structure of the payload that they are from. A code that
// its dictionary does not have sets the word at `aux2`, and the host then finds out which it was. `rows` is 1.
// The reference is crates/cvc-codec/src/ops/dict_planes.rs.

#include "shared.cuh"
#include "narrow.cuh"

// The host writes these: `Dictionary` in crates/cvc-cuda/src/launch.rs.
struct Dictionary {
    u64 codes;    // address of the byte in which the first code begins; one byte more than the codes can be read
    u64 entries;  // address of 256 bytes
    u32 count;    // entries that there are
    u32 bits;     // of a code: 1 to 8
    u32 shift;    // bits of the first byte before the first code
    u32 unused;
};

// Nothing is loaded ahead: codes of several bits, here and there, are more instructions than bytes.
template <u32 COUNT>
struct Nothing {};

struct Dict {
    template <u32 COUNT>
    using Raw = Nothing<COUNT>;

    template <u32 COUNT>
    static __device__ __forceinline__ bool aligned(const Piece &, Place) { return true; }

    template <bool ALIGNED, u32 COUNT>
    static __device__ __forceinline__ void load(const Piece &, Place, Nothing<COUNT> &) {}

    template <u32 COUNT>
    static __device__ __forceinline__ void values(const Piece &piece, Place at, const Nothing<COUNT> &, u32 *bits) {
        const Dictionary *dictionaries = (const Dictionary *)piece.aux;
        bool bad = false;
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) bits[i] = 0;
#pragma unroll 1
        for (u32 p = 0; p < 4; p++) {
            const Dictionary dictionary = dictionaries[p];
#pragma unroll
            for (u32 i = 0; i < COUNT; i++) {
                u32 bit = dictionary.shift + (at.column + i) * dictionary.bits;
                u64 byte = dictionary.codes + bit / 8;
                u32 pair = load_u8(byte) << 8 | load_u8(byte + 1);
                u32 code = (pair << bit % 8 & 0xffff) >> (16 - dictionary.bits);
                bad = bad || code >= dictionary.count;
                bits[i] |= load_u8(dictionary.entries + code) << 8 * p;
            }
        }
        if (bad) *(u32 *)piece.aux2 = 1;
    }
};

typedef Values<Dict, F32> DictToF32;
typedef Values<Dict, F16> DictToF16;
typedef Values<Dict, Bf16> DictToBf16;

KERNEL(cvc_dict_planes_f32, DictToF32)
KERNEL(cvc_dict_planes_f16, DictToF16)
KERNEL(cvc_dict_planes_bf16, DictToBf16)
