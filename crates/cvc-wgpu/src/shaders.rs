//! What is in the shaders: written by `cargo xtask shaders`, which reads `shaders`. Not to be edited.

use crate::pipelines::{Access, Binding, Shader};

pub(crate) static AFFINE_U8: Shader = Shader {
    name: "affine_u8",
    source: include_str!("shaders/affine_u8.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

pub(crate) static COPY: Shader = Shader {
    name: "copy",
    source: include_str!("shaders/copy.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

pub(crate) static DICT_PLANES: Shader = Shader {
    name: "dict_planes",
    source: include_str!("shaders/dict_planes.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
        Binding { number: 2, name: "damaged", access: Access::ReadWrite },
    ],
};

pub(crate) static JOIN_PLANES: Shader = Shader {
    name: "join_planes",
    source: include_str!("shaders/join_planes.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

pub(crate) static LUT_U8: Shader = Shader {
    name: "lut_u8",
    source: include_str!("shaders/lut_u8.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

pub(crate) static ROTATED: Shader = Shader {
    name: "rotated",
    source: include_str!("shaders/rotated.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
        Binding { number: 2, name: "turned", access: Access::Read },
    ],
};

pub(crate) static SCAN_BEST: Shader = Shader {
    name: "scan_best",
    source: include_str!("shaders/scan_best.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "asked", access: Access::Read },
        Binding { number: 1, name: "keys", access: Access::Read },
        Binding { number: 2, name: "best", access: Access::ReadWrite },
    ],
};

pub(crate) static SCAN_BOUNDS: Shader = Shader {
    name: "scan_bounds",
    source: include_str!("shaders/scan_bounds.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "asked", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::Read },
        Binding { number: 2, name: "keys", access: Access::ReadWrite },
    ],
};

pub(crate) static UNROTATE: Shader = Shader {
    name: "unrotate",
    source: include_str!("shaders/unrotate.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "before", access: Access::Read },
        Binding { number: 2, name: "after", access: Access::ReadWrite },
    ],
};

pub(crate) static WIDEN_BF16: Shader = Shader {
    name: "widen_bf16",
    source: include_str!("shaders/widen_bf16.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

pub(crate) static WIDEN_F16: Shader = Shader {
    name: "widen_f16",
    source: include_str!("shaders/widen_f16.wgsl"),
    entry: "main",
    workgroup: [256, 1, 1],
    bindings: &[
        Binding { number: 0, name: "encoded", access: Access::Read },
        Binding { number: 1, name: "decoded", access: Access::ReadWrite },
    ],
};

/// The constants of the frame.
pub(crate) mod frame {
    pub(crate) const FIRST_QUAD: usize = 1;
    pub(crate) const HEADER_WORDS: usize = 8;
    pub(crate) const PIECES: usize = 6;
    pub(crate) const PIECE_LIST: usize = 7;
    pub(crate) const PIECE_WORDS: usize = 17;
    pub(crate) const QUADS: usize = 2;
    pub(crate) const ROW_UNITS: usize = 5;
    pub(crate) const SKIPPED: usize = 3;
    pub(crate) const UNITS: usize = 4;
    pub(crate) const WORKGROUP: usize = 256;
    pub(crate) const ZERO: usize = 0;
}

/// The constants of searching.
#[expect(dead_code, reason = "some are for the shaders alone")]
pub(crate) mod scan {
    pub(crate) const ASKED_WORDS: usize = 8;
    pub(crate) const DEPTH: usize = 16;
    pub(crate) const DIM: usize = 1;
    pub(crate) const DROPPED: usize = 0;
    pub(crate) const KEEP: usize = 4;
    pub(crate) const KEPT: usize = 5;
    pub(crate) const PITCH: usize = 17;
    pub(crate) const QUERIES: usize = 2;
    pub(crate) const ROWS: usize = 0;
    pub(crate) const RULE: usize = 3;
    pub(crate) const TILE_QUERIES: usize = 16;
    pub(crate) const TILE_ROWS: usize = 64;
    pub(crate) const UNKNOWN: usize = 4294967295;
    pub(crate) const WORKGROUP: usize = 256;
}
