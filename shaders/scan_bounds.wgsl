// scan_bounds: how good each row of a stage can be at most, for each query.
//
//     P = sum(q[i] * x[i])        s = sum(x[i] * x[i])        bound = A * P + slack(q) * B + C
//
//     rule of the metric    A                  B          C
//     0  cosine             1 / sqrt(s)        1          0
//     1  dot                1                  sqrt(s)    0
//     2  distances          2                  sqrt(s)    -keep * s
//
// This is the one place where a shader may round as it likes: sums in any order, fused or not, subnormals flushed, roots that are off by some
// units in the last place. `crates/cvc-codec/src/filter.rs` says why no row is better than its bound all the same. What is no number, infinite, or so large that
// sums might overflow is found by comparing bits, since a compiler may assume that there is none, and so are keys: integers in the order of bounds.
//
// A tile is 64 rows and 16 queries. An invocation has one row and four queries of it; all of them bring 16 values of each row and of
// each query to memory of the workgroup, multiply, and go on.
//
// Launched by `Search::ask` in crates/cvc-wgpu/src/scan.rs with a workgroup for each tile, or for as many as a dispatch may have, which then take
// tiles in turn. Bindings:
//     0  asked    read    the words below; after them for each query its threshold, for each its slack, and the queries, one after another
//     1  decoded  read    the rows of the stage, f32, one after another
//     2  keys     write   for each query the keys of all rows

// What `asked` begins with, by word.
const ROWS: u32 = 0u; // rows of the stage
const DIM: u32 = 1u; // values of a row
const QUERIES: u32 = 2u; // how many there are
const RULE: u32 = 3u;
const KEEP: u32 = 4u; // bits of an f32
const KEPT: u32 = 5u; // rows that are kept for a query; for `scan_best`
const ASKED_WORDS: u32 = 8u;

const WORKGROUP: u32 = 256u;
const TILE_ROWS: u32 = 64u;
const TILE_QUERIES: u32 = 16u;
const DEPTH: u32 = 16u;
// Words from one row of a tile to the next: neighbours are then in different banks.
const PITCH: u32 = 17u;

// `UNKNOWN` and `DROPPED` of crates/cvc-codec/src/filter.rs.
const UNKNOWN: u32 = 0xffffffffu;
const DROPPED: u32 = 0u;

@group(0) @binding(0) var<storage, read> asked: array<u32>;
@group(0) @binding(1) var<storage, read> decoded: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;

var<workgroup> tile: array<u32, 1088>;
var<workgroup> multipliers: array<vec4<f32>, 64>;

fn key_of(bound: f32) -> u32 {
    let bits = bitcast<u32>(bound);
    let magnitude = bits & 0x7fffffffu;
    if magnitude >= 0x7f800000u {
        return UNKNOWN;
    }
    return select(bits | 0x80000000u, ~bits, magnitude != bits);
}

fn query_value(query: u32, column: u32) -> f32 {
    if query >= asked[QUERIES] || column >= asked[DIM] {
        return 0.0;
    }
    return bitcast<f32>(asked[ASKED_WORDS + 2u * asked[QUERIES] + query * asked[DIM] + column]);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let rows = asked[ROWS];
    let dim = asked[DIM];
    let queries = asked[QUERIES];
    let row_tiles = (rows + TILE_ROWS - 1u) / TILE_ROWS;
    let tiles = row_tiles * ((queries + TILE_QUERIES - 1u) / TILE_QUERIES);
    let lane = invocation % TILE_ROWS;
    let part = invocation / TILE_ROWS;
    for (var number = group.y * groups.x + group.x; number < tiles; number += groups.x * groups.y) {
        let first_row = (number % row_tiles) * TILE_ROWS;
        let first_query = (number / row_tiles) * TILE_QUERIES;
        var products = vec4<f32>();
        var squares = 0.0;
        var largest = 0u;
        for (var start = 0u; start < dim; start += DEPTH) {
            workgroupBarrier();
            for (var at = invocation; at < TILE_ROWS * DEPTH; at += WORKGROUP) {
                let row = first_row + at / DEPTH;
                let column = start + at % DEPTH;
                var bits = 0u;
                if row < rows && column < dim {
                    bits = decoded[row * dim + column];
                }
                tile[at / DEPTH * PITCH + at % DEPTH] = bits;
            }
            if invocation < TILE_QUERIES / 4u * DEPTH {
                let query = first_query + invocation % 4u * 4u;
                let column = start + invocation / 4u;
                multipliers[invocation] = vec4<f32>(
                    query_value(query, column),
                    query_value(query + 1u, column),
                    query_value(query + 2u, column),
                    query_value(query + 3u, column),
                );
            }
            workgroupBarrier();
            for (var column = 0u; column < DEPTH; column++) {
                let bits = tile[lane * PITCH + column];
                largest = max(largest, bits & 0x7fffffffu);
                let value = bitcast<f32>(bits);
                squares += value * value;
                products += multipliers[column * 4u + part] * value;
            }
        }
        let row = first_row + lane;
        if row < rows {
            // The bits of 1e15, and squares of which f32 has all digits.
            let known = largest < 0x58635fa9u && squares >= 1e-30 && squares <= 1e30;
            let reciprocal = inverseSqrt(max(squares, 1e-30));
            let length = squares * reciprocal;
            var by = 1.0;
            var slack_by = length;
            var fixed = 0.0;
            if asked[RULE] == 0u {
                by = reciprocal;
                slack_by = 1.0;
            }
            if asked[RULE] == 2u {
                by = 2.0;
                fixed = bitcast<f32>(asked[KEEP]) * squares;
            }
            for (var i = 0u; i < 4u; i++) {
                let query = first_query + part * 4u + i;
                if query < queries {
                    let slack = bitcast<f32>(asked[ASKED_WORDS + queries + query]);
                    var key = UNKNOWN;
                    if known {
                        key = key_of(by * products[i] + slack * slack_by - fixed);
                    }
                    if key < asked[ASKED_WORDS + query] {
                        key = DROPPED;
                    }
                    keys[query * rows + row] = key;
                }
            }
        }
    }
}
