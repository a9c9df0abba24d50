// widen_bf16: bfloat16 to f32, exactly.
//
//     bits(y[i]) = x[i] << 16
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows begin, a multiple of 4
//     1  bytes of a row

fn load(record: u32, row: u32, column: u32) -> u32 {
    return half_at(encoded[record] + row * encoded[record + 1u] + column * 2u) << 16u;
}
