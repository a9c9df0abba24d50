//! Which failure is reported.
//!
//! A worker stops at the first failure that it meets in its unit, which need not be that of the lowest destination row, and a
//! kernel only says that something was wrong. So the spans of a unit that failed are done again by the reference, in the
//! order of their destination and block by block: what it meets first is what is reported. Failing is allowed to be slow.

use cvc_codec::{Backend as _, Batch, DecodeError, HostBuffer, Job, Load, Payloads, ReferenceBackend};

use crate::unit::Unit;

/// The failure of the lowest destination row among those of a unit, and that row; `None` if the reference meets none.
pub(crate) fn retrace(unit: &Unit<'_>, src: &dyn Payloads) -> Option<(u64, DecodeError)> {
    let reference = ReferenceBackend::default();
    let mut spans = unit.spans();
    spans.sort_by_key(|span| span.dst_row);
    let mut scratch: Vec<u64> = Vec::new();
    for span in spans {
        let plan = span.plan;
        let blocks = match plan.load() {
            Load::DictPlanes => 0..1,
            _ => plan.parts().blocks_of(span.rows.clone()),
        };
        for block in blocks {
            let of_block = plan.parts().rows_of(block..block + 1);
            let rows = span.rows.start.max(of_block.start)..span.rows.end.min(of_block.end);
            let (count, dst_row) = (rows.len(), span.dst_row + u64::from(rows.start - span.rows.start));
            let len = count * plan.dim() as usize * plan.out().size();
            if scratch.len() < len.div_ceil(8) {
                scratch.resize(len.div_ceil(8), 0);
            }
            let job = Job { plan, chunk: span.chunk, rows, dst_row: 0 };
            let batch =
                Batch::new(vec![job], count as u64, plan.dim(), plan.out()).expect("one job fills it");
            let bytes = &mut bytes_of(&mut scratch)[..len];
            let mut dst =
                HostBuffer::from_bytes(plan.out(), bytes).expect("whole values, on a multiple of 8");
            if let Err(error) = reference.decode(&batch, src, &mut dst) {
                return Some((dst_row, error));
            }
        }
    }
    None
}

fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    bytemuck::cast_slice_mut(words)
}
