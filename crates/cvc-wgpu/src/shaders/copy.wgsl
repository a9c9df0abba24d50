// The frame of every op: which values an invocation makes, and where they go.
//
// The host gathers consecutive rows of the destination in a stage: the encoded bytes of all of them, a record for each piece
// (consecutive rows of one chunk), and the header below, all in `encoded`. One dispatch decodes a stage. A row is a number
// of units: values, or 32-bit parts of values that are longer. Each invocation makes the units of one quad, which is 16 bytes of
// the destination, and asks `load` of the op for each of them:
//
//     decoded[quad] = store(load(piece, row, column)), for each unit of the quad
//
// The first and the last quad can be shared with the stages beside this one, whose bits are left as they are. Stages that
// share a quad are never in the same dispatch.
//
// Launched with a workgroup for every 256 quads, in two dimensions, as one dimension has at most 65,535.

// What `encoded` begins with, by word.
const ZERO: u32 = 0u; // 0, which no compiler knows
const FIRST_QUAD: u32 = 1u; // the quad of `decoded` that has the first unit of this stage
const QUADS: u32 = 2u; // quads that have units of this stage
const SKIPPED: u32 = 3u; // units of the first quad that are not of this stage
const UNITS: u32 = 4u; // units of this stage
const ROW_UNITS: u32 = 5u; // units of a row
const PIECES: u32 = 6u; // how many pieces there are; at least 1
const PIECE_LIST: u32 = 7u; // word where their records begin
const HEADER_WORDS: u32 = 8u;

// Words of the record of a piece. The first is the number of units before it; the others are the op's.
const PIECE_WORDS: u32 = 17u;

// Invocations of a workgroup.
const WORKGROUP: u32 = 256u;

// Bits of a unit in the destination: 8, 16 or 32.
override UNIT_BITS: u32 = 32u;
// What becomes of the f32 that `load` gives: 0 nothing, 1 f16, 2 bf16.
override NARROW_TO: u32 = 0u;

@group(0) @binding(0) var<storage, read> encoded: array<u32>;
@group(0) @binding(1) var<storage, read_write> decoded: array<vec4<u32>>;

fn byte_at(at: u32) -> u32 {
    return (encoded[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu;
}

// `at` is even.
fn half_at(at: u32) -> u32 {
    return (encoded[at >> 2u] >> ((at & 2u) * 8u)) & 0xffffu;
}

// `at` is a multiple of 4.
fn word_at(at: u32) -> u32 {
    return encoded[at >> 2u];
}

fn store(bits: u32) -> u32 {
    switch NARROW_TO {
        case 1u: {
            return narrow_f16(bits);
        }
        case 2u: {
            return narrow_bf16(bits);
        }
        default: {
            return bits;
        }
    }
}

fn units_before(piece: u32) -> u32 {
    return encoded[encoded[PIECE_LIST] + piece * PIECE_WORDS];
}

// The piece that has this unit.
fn piece_of(unit: u32) -> u32 {
    var low = 0u;
    var high = encoded[PIECES];
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if units_before(middle) <= unit {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let quad = (group.y * groups.x + group.x) * WORKGROUP + invocation;
    if quad >= encoded[QUADS] {
        return;
    }
    let word_units = 32u / UNIT_BITS;
    let unit_mask = 0xffffffffu >> (32u - UNIT_BITS);
    let row_units = encoded[ROW_UNITS];
    let skipped = encoded[SKIPPED];
    let end = skipped + encoded[UNITS];

    // Counted, as `skipped` and `end`, from the beginning of the first quad.
    var unit = quad * 4u * word_units;
    let first = max(unit, skipped) - skipped;
    var piece = piece_of(first);
    let within = first - units_before(piece);
    var row = within / row_units;
    var column = within % row_units;
    var piece_end = end;
    if piece + 1u < encoded[PIECES] {
        piece_end = skipped + units_before(piece + 1u);
    }

    var bits = vec4<u32>();
    var ours = vec4<u32>();
    for (var word = 0u; word < 4u; word++) {
        for (var part = 0u; part < word_units; part++) {
            if unit >= skipped && unit < end {
                if unit == piece_end {
                    piece++;
                    row = 0u;
                    column = 0u;
                    piece_end = end;
                    if piece + 1u < encoded[PIECES] {
                        piece_end = skipped + units_before(piece + 1u);
                    }
                }
                let record = encoded[PIECE_LIST] + piece * PIECE_WORDS + 1u;
                bits[word] |= (store(load(record, row, column)) & unit_mask) << (part * UNIT_BITS);
                ours[word] |= unit_mask << (part * UNIT_BITS);
                column++;
                if column == row_units {
                    column = 0u;
                    row++;
                }
            }
            unit++;
        }
    }
    let place = encoded[FIRST_QUAD] + quad;
    if all(ours == vec4<u32>(0xffffffffu)) {
        decoded[place] = bits;
    } else {
        decoded[place] = (decoded[place] & ~ours) | bits;
    }
}

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

// copy: the values as they are, of any dtype.
//
//     y[i] = x[i]
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows begin, a multiple of 4
//     1  bytes of a row

fn load(record: u32, row: u32, column: u32) -> u32 {
    let at = encoded[record] + row * encoded[record + 1u];
    // A half or a byte is not narrowed, so these are the dtype's own bits.
    switch UNIT_BITS {
        case 8u: {
            return byte_at(at + column);
        }
        case 16u: {
            if NARROW_TO == 0u {
                return half_at(at + column * 2u);
            }
            return word_at(at + column * 4u);
        }
        default: {
            return word_at(at + column * 4u);
        }
    }
}
