// narrow: an f32 to binary16 or bfloat16, to nearest, ties to even.
//
//     f16(x)   or   bf16(x)
//
// With integers: a driver may flush subnormal numbers, and may not keep NaNs. NaNs keep their sign and the upper bits of
// their payload; where those are all zero the lowest is set. Used by the frame on what `load` of an op gives.

fn narrow_f16(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7c00u | max((magnitude >> 13u) & 0x3ffu, 1u);
    }
    // From 65,520 on.
    if magnitude >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    let exponent = magnitude >> 23u;
    if exponent >= 113u {
        // Rounding up may carry into the exponent, which is right.
        let rebiased = magnitude - (112u << 23u);
        return sign | ((rebiased + 0xfffu + ((rebiased >> 13u) & 1u)) >> 13u);
    }
    if exponent >= 102u {
        // Subnormal: in units of 2^-24.
        let fraction = (magnitude & 0x7fffffu) | 0x800000u;
        let dropped = 126u - exponent;
        let half_less_one = (1u << (dropped - 1u)) - 1u;
        return sign | ((fraction + half_less_one + ((fraction >> dropped) & 1u)) >> dropped);
    }
    return sign;
}

fn narrow_bf16(bits: u32) -> u32 {
    if (bits & 0x7fffffffu) > 0x7f800000u {
        let upper = bits >> 16u;
        return select(upper, upper | 1u, (upper & 0x7fu) == 0u);
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
