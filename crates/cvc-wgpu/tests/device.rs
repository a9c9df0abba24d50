//! What only a device can do: results that a caller's shader reads, arithmetic that a driver could fuse, and failures.
#![expect(clippy::print_stdout, reason = "a figure of docs/NUMERICS.md, shown with --nocapture")]

mod support;

use std::sync::Arc;

use cvc_codec::{
    Affine, Backend, Batch, ChunkId, ChunkShape, DType, DecodeError, DecodePlan, DeviceBuffer, DeviceMemory,
    HostBuffer, Job, Load, Metric, Parts, Queries, RowSlice, Scan, ScanBatch, ScanJob, Stream,
};
use cvc_conformance::{Device, MemoryPayloads};
use cvc_wgpu::{WgpuBackend, adapters, wgpu};

/// A batch of one chunk of codes, each row with a scale and a minimum of its own, and the chunk's bytes.
fn affine_rows(parameters: &[(f32, f32)]) -> (DecodePlan, Vec<u8>) {
    let rows = u32::try_from(parameters.len()).unwrap();
    let codes: Vec<u8> = (0..rows).flat_map(|_| 0..=255).collect();
    let bytes =
        |of: fn(&(f32, f32)) -> f32| parameters.iter().flat_map(|p| of(p).to_le_bytes()).collect::<Vec<u8>>();
    let fields = [(256, codes), (4, bytes(|p| p.1)), (4, bytes(|p| p.0))];
    let (parts, chunk) = cvc_conformance::native_chunk(rows, rows, &fields, &[], cvc_codec::Packing::Stored);
    let load = Load::AffineU8(Affine::Row);
    let plan = DecodePlan::new(ChunkShape { rows, dim: 256 }, load, Stream::Stored, DType::F32, &parts);
    (plan.unwrap(), chunk)
}

/// A chunk of so many f32 values, in rows of 8.
fn copied(values: &[f32]) -> (DecodePlan, Vec<u8>) {
    let rows = u32::try_from(values.len() / 8).unwrap();
    let parts = Arc::new(Parts::packed(rows, 32));
    let shape = ChunkShape { rows, dim: 8 };
    let plan = DecodePlan::new(shape, Load::Copy(DType::F32), Stream::Stored, DType::F32, &parts).unwrap();
    (plan, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn all_rows(plan: &DecodePlan) -> Batch<'_> {
    let rows = plan.shape().rows;
    let job = Job { plan, chunk: ChunkId(0), rows: 0..rows, dst_row: 0 };
    Batch::new(vec![job], u64::from(rows), plan.dim(), plan.out()).unwrap()
}

/// Decodes all rows of a chunk of f32 values and brings them back.
fn decode(backend: &WgpuBackend, plan: &DecodePlan, chunk: Vec<u8>) -> Result<Vec<f32>, DecodeError> {
    let batch = all_rows(plan);
    let mut values = vec![0.0; usize::try_from(plan.shape().values()).unwrap()];
    let mut buffer = backend.allocate(DType::F32, values.len() as u64)?;
    backend.decode(&batch, &MemoryPayloads::new(&[chunk]), &mut buffer)?;
    backend.download(&buffer, &mut HostBuffer::new(&mut values))?;
    Ok(values)
}

/// A device as a caller would make it.
fn callers_device() -> Option<(wgpu::Device, wgpu::Queue)> {
    let adapter = support::adapter()?;
    let request = adapter.wgpu_adapter().request_device(&wgpu::DeviceDescriptor::default());
    Some(pollster::block_on(request).unwrap())
}

fn is_device_failure(error: &DecodeError, text: &str) -> bool {
    matches!(error, DecodeError::Device { .. }) && error.to_string().contains(text)
}

/// Decodes all codes with each pair of parameters, compares every value with the two roundings, and counts how many one rounding
/// would have changed.
fn fused_differ(backend: &WgpuBackend, parameters: &[(f32, f32)]) -> usize {
    let (plan, chunk) = affine_rows(parameters);
    let values = decode(backend, &plan, chunk).unwrap();
    assert_eq!(values.len(), 256 * parameters.len());
    let mut differ = 0;
    for (values, (scale, min)) in values.chunks(256).zip(parameters) {
        for (code, value) in (0..256u16).map(f32::from).zip(values) {
            assert_eq!(value.to_bits(), (code * scale + min).to_bits(), "{code} * {scale:e} + {min:e}");
            differ += usize::from(code.mul_add(*scale, *min).to_bits() != value.to_bits());
        }
    }
    differ
}

/// Numbers that are the same in every run.
fn random() -> impl FnMut() -> u32 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 32).unwrap()
    }
}

/// Scales of 24 significant bits, for which every product is rounded: a fused multiply-add would change a third of all results.
#[test]
fn products_and_sums_are_never_fused() {
    let Some(Device(backend)) = support::backend() else { return };
    let mut random = random();
    let mut odd = || random() >> 9 | 1;
    let parameters: Vec<(f32, f32)> = (0..600)
        .map(|_| {
            let scale = f32::from_bits(0x3b80_0000 | odd());
            (scale, -scale * 128.0 * (1.0 + f32::from_bits(0x3f80_0000 | odd()) / 16.0))
        })
        .collect();
    let (differ, all) = (fused_differ(backend, &parameters), 256 * parameters.len());
    assert!(differ * 10 > all * 3, "only {differ} of {all} would differ: these parameters prove nothing");
    println!("{differ} of {all} results would differ if they were fused");
}

/// Parameters of any finite bits, and pairs that are close to each other: subnormal ones, sums that cancel, results that
/// overflow.
#[test]
fn any_finite_parameters_are_two_roundings() {
    let Some(Device(backend)) = support::backend() else { return };
    let mut random = random();
    let mut finite = || loop {
        let value = f32::from_bits(random());
        if value.is_finite() {
            return value;
        }
    };
    let mut parameters: Vec<(f32, f32)> = (0..1000).map(|_| (finite(), finite())).collect();
    let mut near = |exponent: u32| {
        let bits = finite().to_bits() & 0x807f_ffff;
        f32::from_bits(bits | exponent << 23)
    };
    // The exponents where arithmetic changes from floats to integers and back, and the ends of the range.
    for scale in [0, 1, 2, 26, 27, 28, 127, 238, 239, 240, 253, 254] {
        for apart in [0, 1, 5, 8, 23, 24, 25, 30, 60] {
            let min = (scale + apart).min(254);
            parameters.extend([
                (near(scale), near(min)),
                (near(min), near(scale)),
                (near(scale), 0.0),
                (near(scale), -0.0),
            ]);
        }
    }
    fused_differ(backend, &parameters);
}

/// The rows stay on the caller's device, where a shader of the caller's reads them.
#[test]
fn a_shader_of_the_caller_reads_the_rows() {
    let Some((device, queue)) = callers_device() else { return };
    let backend = WgpuBackend::from_device(device.clone(), queue.clone()).unwrap();
    let values: Vec<f32> = (0..800u16).map(f32::from).collect();
    let (plan, chunk) = copied(&values);
    let mut rows = backend.allocate(DType::F32, 800).unwrap();
    backend.decode(&all_rows(&plan), &MemoryPayloads::new(&[chunk]), &mut rows).unwrap();

    let doubled = backend.allocate(DType::F32, 800).unwrap();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(
            "@group(0) @binding(0) var<storage, read> rows: array<f32>;
             @group(0) @binding(1) var<storage, read_write> doubled: array<f32>;
             @compute @workgroup_size(1)
             fn main(@builtin(workgroup_id) id: vec3<u32>) { doubled[id.x] = rows[id.x] * 2.0; }"
                .into(),
        ),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[(0, rows.buffer()), (1, doubled.buffer())]
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }),
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(800, 1, 1);
    }
    queue.submit([encoder.finish()]);
    let mut found = vec![0.0; 800];
    backend.download(&doubled, &mut HostBuffer::new(&mut found)).unwrap();
    assert!(found.iter().zip(&values).all(|(found, value)| *found == value * 2.0));
}

#[test]
fn a_lost_device_is_an_error_in_every_call() {
    let Some(adapter) = support::adapter() else { return };
    let (plan, chunk) = copied(&[1.0; 64]);
    let owned = WgpuBackend::open(&adapter).unwrap();
    let (device, queue) = callers_device().unwrap();
    let borrowed = WgpuBackend::from_device(device, queue).unwrap();
    for backend in [owned, borrowed] {
        let mut buffer = backend.allocate(DType::F32, 64).unwrap();
        decode(&backend, &plan, chunk.clone()).unwrap();
        let src = MemoryPayloads::new(std::slice::from_ref(&chunk));
        let queries = Queries::new(Metric::Dot, RowSlice::new(&[1f32; 8], 8).unwrap()).unwrap();
        let rows = ScanJob { plan: &plan, chunk: ChunkId(0), rows: 0..8, first_row: 0 };
        let rows = ScanBatch::new(vec![rows], 8, DType::F32).unwrap();
        backend.scan(&rows, &src, &queries, 3).unwrap();
        backend.wgpu_device().destroy();
        for _ in 0..2 {
            let error = backend.scan(&rows, &src, &queries, 3).unwrap_err();
            assert!(is_device_failure(&error, "wgpu failed"), "{error}");
            let error = backend.decode(&all_rows(&plan), &src, &mut buffer).unwrap_err();
            assert!(is_device_failure(&error, "wgpu failed"), "{error}");
            let error = backend.download(&buffer, &mut HostBuffer::new(&mut [0f32; 64])).unwrap_err();
            assert!(is_device_failure(&error, "wgpu failed"), "{error}");
            assert!(backend.upload(&[0; 256], &mut buffer).is_err());
            let error = decode(&backend, &plan, chunk.clone()).unwrap_err();
            assert!(is_device_failure(&error, "wgpu failed"), "{error}");
        }
    }
}

#[test]
fn what_the_device_cannot_do_is_refused_with_its_limit() {
    let Some(adapter) = support::adapter() else { return };
    let Some(Device(backend)) = support::backend() else { return };
    let most = adapter.limits().max_buffer_size;
    for values in [most / 4 + 1, u64::MAX / 4, u64::MAX] {
        let error = backend.allocate(DType::F32, values).unwrap_err();
        assert!(is_device_failure(&error, &most.to_string()), "{error}");
    }
    // Rows that no binding holds.
    let dim = u32::try_from(most / 4).unwrap();
    let parts = Arc::new(Parts::packed(1, dim));
    let load = Load::AffineU8(Affine::Chunk { scale: 1.0, min: 0.0 });
    let plan =
        DecodePlan::new(ChunkShape { rows: 1, dim }, load, Stream::Stored, DType::F32, &parts).unwrap();
    let refusal = backend.supports(&plan).unwrap_err().to_string();
    assert!(refusal.contains("binds at most") && refusal.contains("choose another device"), "{refusal}");
}

#[test]
fn a_buffer_of_another_device_is_an_error() {
    let Some(Device(backend)) = support::backend() else { return };
    let (device, queue) = callers_device().unwrap();
    let other = WgpuBackend::from_device(device, queue).unwrap();
    let mut foreign = other.allocate(DType::F32, 64).unwrap();
    let (plan, chunk) = copied(&[1.0; 64]);
    let src = MemoryPayloads::new(std::slice::from_ref(&chunk));
    let error = backend.decode(&all_rows(&plan), &src, &mut foreign).unwrap_err();
    assert!(is_device_failure(&error, "report"), "{error}");
    // And the backend goes on.
    assert_eq!(decode(backend, &plan, chunk).unwrap(), [1.0; 64]);
}

#[test]
fn what_nobody_listens_to_is_no_panic() {
    let Some(adapter) = support::adapter() else { return };
    let backend = WgpuBackend::open(&adapter).unwrap();
    // Without a handler, wgpu would panic here.
    drop(backend.wgpu_device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    }));
    let error = backend.allocate(DType::F32, 1).unwrap_err();
    assert!(is_device_failure(&error, "report"), "{error}");
    assert_eq!(backend.allocate(DType::F32, 1).unwrap().byte_len(), 4);
}

#[test]
fn adapters_come_with_software_last() {
    let Some(_) = support::adapter() else { return };
    let software: Vec<bool> = adapters().unwrap().iter().map(cvc_wgpu::Adapter::is_software).collect();
    assert!(software.is_sorted(), "{software:?}");
}
