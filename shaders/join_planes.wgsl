// join_planes: byte p of every value stands in plane p.
//
//     byte p of y[i] = p-th plane[i]
//
// No arithmetic: every bit comes back. The host has inflated the planes that are packed.
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece, for each plane p of the
// dtype, of which there are as many as it has bytes:
//     2p      byte of `encoded` where the rows of the plane begin
//     2p + 1  bytes from one row of it to the next

// Units of values of 8 bytes are their halves: planes 0 to 3, then 4 to 7.
override PLANES: u32 = 4u;

fn load(record: u32, row: u32, column: u32) -> u32 {
    let unit_planes = min(PLANES, 4u);
    let value = column * unit_planes / PLANES;
    let first = column * unit_planes % PLANES;
    var bits = 0u;
    for (var p = 0u; p < unit_planes; p++) {
        let plane = record + 2u * (first + p);
        bits |= byte_at(encoded[plane] + row * encoded[plane + 1u] + value) << (8u * p);
    }
    return bits;
}
