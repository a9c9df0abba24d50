// rotated: integers that levels of rotated rows have become, a scale for each row, a centre for each dim.
//
//     y[i] = f32(f32(t[i] * scale) + centre[i])
//
// Two roundings, never one, as in affine_u8, and for the same reasons with a barrier between them, or with integers. `t` is what
// unrotate.wgsl has made of the codes in two dispatches before this one.
//
// Launched by the frame, which binds `encoded` (read), `decoded` (write) and `turned` (read). The record of a piece:
//     0  byte of `encoded` where the rows of codes begin
//     1  bytes of a row
//     2  word of `encoded` where the scales begin
//     3  word of `encoded` where the centre begins; none of it is -0.0
//     4  word of `encoded` where the signs of the first round begin, a bit for each, 1 for plus; then those of the second
//     5  values of a row, wanted or not
//     6  values of a block: a power of two, at most 256
//     7  bits of a code: 4 or 1
//     8  where the values of the piece begin in `turned`: a multiple of 256
//     9  rows of the piece

@group(0) @binding(2) var<storage, read> turned: array<i32>;

fn load(record: u32, row: u32, column: u32) -> u32 {
    let t = turned[encoded[record + 8u] + row * encoded[record + 5u] + column];
    let scale = encoded[encoded[record + 2u] + row];
    let centre = encoded[encoded[record + 3u] + column];
    if t == 0 {
        // Whatever the sign of the product, as no centre is -0.0.
        return centre;
    }
    let scale_exponent = (scale >> 23u) & 0xffu;
    let centre_exponent = (centre >> 23u) & 0xffu;
    // A scale of at least 2^-100 and below 2^90, a centre that is normal and below 2^113, or 0: neither a product nor a sum of the two
    // can be subnormal, nor overflow.
    if scale_exponent >= 27u && scale_exponent < 217u
        && (centre == 0u || (centre_exponent >= 1u && centre_exponent < 240u)) {
        // Below 2^24: exact.
        let product = f32(t) * bitcast<f32>(scale);
        let barrier = bitcast<u32>(product) ^ encoded[ZERO];
        return bitcast<u32>(bitcast<f32>(barrier) + bitcast<f32>(centre));
    }
    return sum(multiple(t, scale), centre);
}

// The bits of f32(t * scale), for a t that is not 0 and below 2^24 and a finite scale: with integers.
fn multiple(t: i32, scale: u32) -> u32 {
    let sign = (scale ^ u32(t)) & 0x80000000u;
    let exponent = max((scale >> 23u) & 0xffu, 1u);
    let a = u32(abs(t));
    let b = significand(scale);
    // 24 bits times 24, from halves of 12: `high` and `low` are the upper and the lower 24 of them.
    let middle = (a >> 12u) * (b & 0xfffu) + (a & 0xfffu) * (b >> 12u);
    let lower = (a & 0xfffu) * (b & 0xfffu) + ((middle & 0xfffu) << 12u);
    let low = lower & 0xffffffu;
    let high = (a >> 12u) * (b >> 12u) + (middle >> 12u) + (lower >> 24u);
    if high == 0u {
        if low == 0u {
            return sign;
        }
        // Exact; as far to the left as the least exponent allows.
        let shift = min(countLeadingZeros(low) - 8u, exponent - 1u);
        return sign | assembled(exponent - shift, low << shift);
    }
    let shift = 32u - countLeadingZeros(high);
    let kept = (high << (24u - shift)) | (low >> shift);
    let dropped = low & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let rounds_up = dropped > half || (dropped == half && (kept & 1u) == 1u);
    return sign | assembled(exponent + shift, kept + u32(rounds_up));
}
