// sum: f32 addition with integers, to nearest, ties to even, for what a driver might flush or take for something else.
//
//     f32(a + b)
//
// Used by ops that scale and shift.

// The bits of f32(a + b), for a that is no NaN and a finite b: with integers.
fn sum(a: u32, b: u32) -> u32 {
    if (a & 0x7fffffffu) == 0x7f800000u {
        return a;
    }
    let swapped = (a & 0x7fffffffu) < (b & 0x7fffffffu);
    let larger = select(a, b, swapped);
    let smaller = select(b, a, swapped);
    var exponent = max((larger >> 23u) & 0xffu, 1u);
    let apart = exponent - max((smaller >> 23u) & 0xffu, 1u);
    // With three bits more, of which the last says whether anything beyond it was lost.
    let aligned = significand(smaller) << 3u;
    var shifted = u32(aligned != 0u);
    if apart < 27u {
        shifted = (aligned >> apart) | u32((aligned & ((1u << apart) - 1u)) != 0u);
    }
    var total = significand(larger) << 3u;
    if ((a ^ b) & 0x80000000u) == 0u {
        total += shifted;
    } else {
        total -= shifted;
    }
    if total == 0u {
        // -0.0 only of two of them.
        return a & b & 0x80000000u;
    }
    let leading = 31u - countLeadingZeros(total);
    if leading > 26u {
        total = (total >> 1u) | (total & 1u);
        exponent += 1u;
    } else {
        let shift = min(26u - leading, exponent - 1u);
        total <<= shift;
        exponent -= shift;
    }
    let rounded = (total + 3u + ((total >> 3u) & 1u)) >> 3u;
    return (larger & 0x80000000u) | assembled(exponent, rounded);
}

// The 24 bits that are multiplied by a power of two.
fn significand(bits: u32) -> u32 {
    return (bits & 0x7fffffu) | select(0u, 0x800000u, (bits & 0x7f800000u) != 0u);
}

// The magnitude of `significand * 2^(exponent - 150)`: subnormal if the exponent is 1 and the 24th bit is not set, infinite
// if the exponent is too large. A significand of 2^24, rounded up, carries into the exponent.
fn assembled(exponent: u32, significand: u32) -> u32 {
    return min(((exponent - 1u) << 23u) + significand, 0x7f800000u);
}
