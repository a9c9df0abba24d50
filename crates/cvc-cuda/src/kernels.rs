//! Which kernel runs a plan, and the text of all of them.

use cvc_codec::{Affine, DType, DecodePlan, Load};

/// The PTX of each op and of searching, made by `cargo xtask kernels` from `kernels/<op>.cu`.
pub(crate) const MODULES: &[(&str, &str)] = &[
    ("affine_u8", include_str!("ptx/affine_u8.ptx")),
    ("copy", include_str!("ptx/copy.ptx")),
    ("dict_planes", include_str!("ptx/dict_planes.ptx")),
    ("join_planes", include_str!("ptx/join_planes.ptx")),
    ("lut_u8", include_str!("ptx/lut_u8.ptx")),
    ("rotated", include_str!("ptx/rotated.ptx")),
    ("scan", include_str!("ptx/scan.ptx")),
    ("widen_bf16", include_str!("ptx/widen_bf16.ptx")),
    ("widen_f16", include_str!("ptx/widen_f16.ptx")),
];

/// An entry of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kernel {
    /// The op, which names the module.
    pub(crate) op: &'static str,
    /// The entry.
    pub(crate) entry: &'static str,
    /// Bytes of what the kernel calls a value, in the first source.
    pub(crate) source_size: u32,
    /// Bytes of one in the destination.
    pub(crate) size: u32,
}

/// A kernel of searching, by its entry: `"cvc_scan_bounds"`, `"cvc_scan_best"` or `"cvc_scan_rows"`.
pub(crate) fn search(entry: &'static str) -> Kernel {
    Kernel { op: "scan", entry, source_size: 4, size: 4 }
}

/// What runs before the kernel of a plan of rotated rows, from the codes to what that kernel takes for its source.
pub(crate) const ROTATED_LEVELS: Kernel =
    Kernel { op: "rotated", entry: "cvc_rotated_levels", source_size: 1, size: 2 };

/// The kernel that runs `plan`; of a plan of rotated rows, the last.
pub(crate) fn of(plan: &DecodePlan) -> Kernel {
    let op = plan.load().name();
    let out = plan.out();
    // One entry for each of the outputs that f32 values can have.
    let outs = |source_size, f32, f16, bf16| {
        let (entry, size) = match out {
            DType::F16 => (f16, 2),
            DType::Bf16 => (bf16, 2),
            _ => (f32, 4),
        };
        Kernel { op, entry, source_size, size }
    };
    match plan.load() {
        // Bytes are bytes.
        Load::Copy(dtype) if *dtype == out => Kernel { op, entry: "cvc_copy", source_size: 1, size: 1 },
        Load::Copy(_) => outs(4, "cvc_copy", "cvc_copy_f32_f16", "cvc_copy_f32_bf16"),
        Load::WidenF16 => outs(2, "cvc_widen_f16_f32", "cvc_copy", "cvc_widen_f16_bf16"),
        Load::WidenBf16 => outs(2, "cvc_widen_bf16_f32", "cvc_widen_bf16_f16", "cvc_copy"),
        Load::AffineU8(Affine::Chunk { .. }) => {
            outs(1, "cvc_affine_u8_chunk_f32", "cvc_affine_u8_chunk_f16", "cvc_affine_u8_chunk_bf16")
        }
        Load::AffineU8(Affine::Dim { .. }) => {
            outs(1, "cvc_affine_u8_dim_f32", "cvc_affine_u8_dim_f16", "cvc_affine_u8_dim_bf16")
        }
        Load::AffineU8(Affine::Row) => {
            outs(1, "cvc_affine_u8_row_f32", "cvc_affine_u8_row_f16", "cvc_affine_u8_row_bf16")
        }
        Load::LutU8(_) => outs(1, "cvc_lut_u8_f32", "cvc_lut_u8_f16", "cvc_lut_u8_bf16"),
        // From what `ROTATED_LEVELS` made of the codes.
        Load::Rotated { .. } => outs(2, "cvc_rotated_f32", "cvc_rotated_f16", "cvc_rotated_bf16"),
        Load::JoinPlanes { dtype, .. } if *dtype != out => {
            outs(1, "cvc_join_planes_4", "cvc_join_planes_f32_f16", "cvc_join_planes_f32_bf16")
        }
        Load::JoinPlanes { dtype, .. } => {
            let (entry, size) = match dtype.size() {
                2 => ("cvc_join_planes_2", 2),
                8 => ("cvc_join_planes_8", 8),
                _ => ("cvc_join_planes_4", 4),
            };
            Kernel { op, entry, source_size: 1, size }
        }
        Load::DictPlanes => outs(1, "cvc_dict_planes_f32", "cvc_dict_planes_f16", "cvc_dict_planes_bf16"),
    }
}
