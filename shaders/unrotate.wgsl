// unrotate: from the codes of rotated rows to the integers that are scaled, in two dispatches.
//
//     round 0: after = the transform of each block of levels
//     round 1: after = the transform of each block of (before * signs of round 1, back in the places of round 0), * signs of round 0
//
// The transform is that of Walsh and Hadamard, in natural order. All values are integers below 2^23: every device has the same.
// docs/codecs/int4.md has the places and the signs.
//
// It stands alone: the header and the records are those of frame.wgsl and rotated.wgsl. The values of a piece are padded to a
// multiple of 256, and blocks divide 256, so that a workgroup has whole blocks of one piece, a value for each invocation. Workgroups take
// turns until all values are done.

const PIECES: u32 = 6u;
const PIECE_LIST: u32 = 7u;
const PIECE_WORDS: u32 = 17u;

override ROUND: u32 = 0u;

@group(0) @binding(0) var<storage, read> encoded: array<u32>;
@group(0) @binding(1) var<storage, read> before: array<i32>;
@group(0) @binding(2) var<storage, read_write> after: array<i32>;

var<workgroup> block_values: array<i32, 256>;

fn record_of(piece: u32) -> u32 {
    return encoded[PIECE_LIST] + piece * PIECE_WORDS + 1u;
}

// Where the values of a piece begin.
fn start_of(piece: u32) -> u32 {
    return encoded[record_of(piece) + 8u];
}

fn values_of(piece: u32) -> u32 {
    return encoded[record_of(piece) + 9u] * encoded[record_of(piece) + 5u];
}

// The piece that has this value.
fn piece_of(value: u32) -> u32 {
    var low = 0u;
    var high = encoded[PIECES];
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if start_of(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

fn level_of_int4(code: u32) -> i32 {
    var magnitudes = array<i32, 8>(6, 18, 31, 44, 58, 75, 96, 127);
    if code < 8u {
        return -magnitudes[7u - code];
    }
    return magnitudes[code - 8u];
}

fn level(record: u32, row: u32, column: u32) -> i32 {
    let bit = column * encoded[record + 7u];
    let at = encoded[record] + row * encoded[record + 1u] + (bit >> 3u);
    let byte = (encoded[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu;
    if encoded[record + 7u] == 4u {
        return level_of_int4((byte >> (bit & 7u)) & 15u);
    }
    return select(-1, 1, ((byte >> (bit & 7u)) & 1u) == 1u);
}

fn signed(value: i32, signs: u32, column: u32) -> i32 {
    return select(-value, value, ((encoded[signs + (column >> 5u)] >> (column & 31u)) & 1u) == 1u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let last = encoded[PIECES] - 1u;
    let end = start_of(last) + values_of(last);
    for (var start = (group.y * groups.x + group.x) * 256u; start < end; start += groups.x * groups.y * 256u) {
        let piece = piece_of(start);
        let record = record_of(piece);
        let dim = encoded[record + 5u];
        let block = encoded[record + 6u];
        let signs = encoded[record + 4u];
        let sign_words = (dim + 31u) / 32u;
        let value = start - start_of(piece) + invocation;
        let row = value / dim;
        let column = value % dim;
        var mine = 0;
        if value < values_of(piece) {
            if ROUND == 0u {
                mine = level(record, row, column);
            } else {
                let place = (column % block) * (dim / block) + column / block;
                mine = signed(before[start_of(piece) + row * dim + place], signs + sign_words, place);
            }
        }
        for (var step = 1u; step < block; step *= 2u) {
            block_values[invocation] = mine;
            workgroupBarrier();
            let other = block_values[invocation ^ step];
            mine = select(mine + other, other - mine, (invocation & step) != 0u);
            workgroupBarrier();
        }
        if value < values_of(piece) {
            if ROUND == 1u {
                mine = signed(mine, signs, column);
            }
            after[start + invocation] = mine;
        }
    }
}
