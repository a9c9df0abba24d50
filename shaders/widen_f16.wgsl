// widen_f16: binary16 to f32, exactly.
//
//     y[i] = the f32 with the value of the half x[i]
//
// With integers: a driver may flush subnormal halves, and may quiet NaNs, whose payload is kept here.
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows begin, a multiple of 4
//     1  bytes of a row

fn load(record: u32, row: u32, column: u32) -> u32 {
    let half = half_at(encoded[record] + row * encoded[record + 1u] + column * 2u);
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 0x1fu;
    let fraction = half & 0x3ffu;
    if exponent == 31u {
        return sign | 0x7f800000u | (fraction << 13u);
    }
    if exponent > 0u {
        return sign | ((exponent + 112u) << 23u) | (fraction << 13u);
    }
    if fraction == 0u {
        return sign;
    }
    // fraction * 2^-24: the leading one moves to the implicit place.
    let shift = countLeadingZeros(fraction) - 21u;
    return sign | ((113u - shift) << 23u) | (((fraction << shift) & 0x3ffu) << 13u);
}
