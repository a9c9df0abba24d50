// affine_u8: one byte per value, and a scale and a minimum: one for all, for each row or for each dim.
//
//     y[i] = f32(f32(x[i] * scale) + min)
//
// Two roundings, never one. A driver may contract a product and a sum to a fused multiply-add, and nothing in WGSL forbids
// it; but no driver can see through an xor with a zero that it reads from memory, so one stands between the two. Drivers may also flush
// subnormal numbers, and need not have infinities: parameters that can lead to either are worked out with integers.
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows of codes begin
//     1  bytes of a row
//     2  word of `encoded` where the scales begin
//     3  word of `encoded` where the minima begin
//     4  words from the parameters of one row to those of the next
//     5  words from the parameters of one dim to those of the next

fn load(record: u32, row: u32, column: u32) -> u32 {
    let code = byte_at(encoded[record] + row * encoded[record + 1u] + column);
    let parameter = row * encoded[record + 4u] + column * encoded[record + 5u];
    let scale = encoded[encoded[record + 2u] + parameter];
    let minimum = encoded[encoded[record + 3u] + parameter];
    let scale_exponent = (scale >> 23u) & 0xffu;
    let min_exponent = (minimum >> 23u) & 0xffu;
    // A scale of at least 2^-100 and below 2^113, a minimum that is normal and below 2^113, or 0: neither a product nor a sum
    // of the two can be subnormal, nor overflow.
    if scale_exponent >= 27u && scale_exponent < 240u
        && (minimum == 0u || (min_exponent >= 1u && min_exponent < 240u)) {
        let product = f32(code) * bitcast<f32>(scale);
        let barrier = bitcast<u32>(product) ^ encoded[ZERO];
        return bitcast<u32>(bitcast<f32>(barrier) + bitcast<f32>(minimum));
    }
    return sum(multiple(code, scale), minimum);
}

// The bits of f32(code * scale), for a finite scale: with integers.
fn multiple(code: u32, scale: u32) -> u32 {
    let sign = scale & 0x80000000u;
    let exponent = max((scale >> 23u) & 0xffu, 1u);
    // 24 bits times 8: nothing is lost.
    let product = code * significand(scale);
    if product == 0u {
        return sign;
    }
    let leading = 31u - countLeadingZeros(product);
    if leading <= 23u {
        // Exact; as far to the left as the least exponent allows.
        let shift = min(23u - leading, exponent - 1u);
        return sign | assembled(exponent - shift, product << shift);
    }
    let shift = leading - 23u;
    let half_less_one = (1u << (shift - 1u)) - 1u;
    let rounded = (product + half_less_one + ((product >> shift) & 1u)) >> shift;
    return sign | assembled(exponent + shift, rounded);
}
