// lut_u8: one of 256 values, which the host has worked out.
//
//     y[i] = table[x[i]]
//
// No arithmetic and no f32: entries may be NaNs, which shaders may assume not to exist.
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows of codes begin
//     1  bytes of a row
//     2  word of `encoded` where the table begins

fn load(record: u32, row: u32, column: u32) -> u32 {
    let code = byte_at(encoded[record] + row * encoded[record + 1u] + column);
    return encoded[encoded[record + 2u] + code];
}
