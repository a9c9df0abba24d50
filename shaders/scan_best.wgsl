// scan_best: of the keys of a stage, the largest for each query.
//
//     best[query] = (rows not dropped, largest key thrown away, the KEPT pairs of a row and its key with the largest keys)
//
// Integers only. The key that comes KEPT-th is found digit by digit, eight bits at a time, by counting; then the pairs are written in whatever order the invocations
// come to it, and of rows with that very key any. If rows were thrown away, that key is as large as any of theirs.
//
// Launched by `Search::ask` in crates/cvc-wgpu/src/scan.rs, after `scan_bounds`, with a workgroup for each query, or for as many as a
// dispatch may have, which then take queries in turn. Bindings:
//     0  asked  read    as in `scan_bounds`
//     1  keys   read    for each query the keys of all rows
//     2  best   write   for each query the words above: 2 + 2 * KEPT of them

const ROWS: u32 = 0u;
const QUERIES: u32 = 2u;
const KEPT: u32 = 5u;

const WORKGROUP: u32 = 256u;
const DROPPED: u32 = 0u;

@group(0) @binding(0) var<storage, read> asked: array<u32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> best: array<u32>;

// How many keys have each digit, among those with the leading digits found so far.
var<workgroup> counts: array<atomic<u32>, 256>;
// The digit, and how many rows with it are to be kept.
var<workgroup> digit: u32;
var<workgroup> left: u32;
var<workgroup> total: u32;
var<workgroup> above: atomic<u32>;
var<workgroup> alike: atomic<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let rows = asked[ROWS];
    let kept = asked[KEPT];
    for (var query = group.y * groups.x + group.x; query < asked[QUERIES]; query += groups.x * groups.y) {
        let first = query * rows;
        var found = 0u;
        for (var round = 0u; round < 4u; round++) {
            let shift = 24u - 8u * round;
            workgroupBarrier();
            atomicStore(&counts[invocation], 0u);
            if invocation == 0u && round == 0u {
                left = kept;
                atomicStore(&above, 0u);
                atomicStore(&alike, 0u);
            }
            workgroupBarrier();
            for (var row = invocation; row < rows; row += WORKGROUP) {
                let key = keys[first + row];
                // Shifted twice: 32 bits at once are none.
                if key != DROPPED && ((key ^ found) >> shift) >> 8u == 0u {
                    atomicAdd(&counts[(key >> shift) & 0xffu], 1u);
                }
            }
            workgroupBarrier();
            if invocation == 0u {
                if round == 0u {
                    var sum = 0u;
                    for (var i = 0u; i < 256u; i++) {
                        sum += atomicLoad(&counts[i]);
                    }
                    total = sum;
                }
                // Where there are too few, every digit is 0, and every key above that.
                var at = 255u;
                var wanted = left;
                loop {
                    let count = atomicLoad(&counts[at]);
                    if count >= wanted || at == 0u {
                        break;
                    }
                    wanted -= count;
                    at--;
                }
                digit = at;
                left = wanted;
            }
            workgroupBarrier();
            found |= digit << shift;
        }
        let record = query * (2u + 2u * kept);
        if invocation == 0u {
            best[record] = total;
            best[record + 1u] = select(DROPPED, found, total > kept);
        }
        let places_above = kept - left;
        for (var row = invocation; row < rows; row += WORKGROUP) {
            let key = keys[first + row];
            var place = kept;
            if key > found {
                place = atomicAdd(&above, 1u);
            } else if key == found && key != DROPPED {
                let number = atomicAdd(&alike, 1u);
                if number < left {
                    place = places_above + number;
                }
            }
            if place < kept {
                best[record + 2u + 2u * place] = row;
                best[record + 3u + 2u * place] = key;
            }
        }
    }
}
