// dict_planes: four byte planes of f32 values, each a dictionary and bit-packed codes for it.
//
//     bits(y[i]) = d0[c0[i]] | d1[c1[i]] << 8 | d2[c2[i]] << 16 | d3[c3[i]] << 24
//
// The host has checked the structure of the payload and cut the codes of the piece out of it. A code beyond its dictionary
// sets `damaged`; the host then finds out which it is.
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write); and here `damaged`. The record of a piece, for
// each plane p of 4:
//     4p      byte of `encoded` where its codes begin
//     4p + 1  bits before the first code, 0 to 7
//     4p + 2  bits of a code, 1 to 8, and from bit 8 on the entries of the dictionary
//     4p + 3  byte of `encoded` where the dictionary begins, padded to 256 entries

@group(0) @binding(2) var<storage, read_write> damaged: atomic<u32>;

fn load(record: u32, row: u32, column: u32) -> u32 {
    let value = row * encoded[ROW_UNITS] + column;
    var bits = 0u;
    for (var p = 0u; p < 4u; p++) {
        let plane = record + 4u * p;
        let width = encoded[plane + 2u] & 0xffu;
        let bit = encoded[plane + 1u] + value * width;
        let at = encoded[plane] + bit / 8u;
        // Most significant bit first. A code spans at most two bytes.
        let pair = (byte_at(at) << 8u) | byte_at(at + 1u);
        let code = (pair >> (16u - width - bit % 8u)) & ((1u << width) - 1u);
        if code >= (encoded[plane + 2u] >> 8u) {
            atomicStore(&damaged, 1u);
        }
        bits |= byte_at(encoded[plane + 3u] + code) << (8u * p);
    }
    return bits;
}
