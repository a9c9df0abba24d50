//! From the shader of an op to a pipeline, made when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A shader as it ships; one for each op, in [`crate::shaders`].
#[derive(Debug)]
pub(crate) struct Shader {
    /// The op.
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) entry: &'static str,
    /// Invocations of a workgroup.
    pub(crate) workgroup: [u32; 3],
    pub(crate) bindings: &'static [Binding],
}

/// A storage buffer that a shader is bound to.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) access: Access,
}

/// What a shader does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// What a pipeline is specialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// The op.
    pub(crate) op: &'static str,
    /// Bits of a unit of the destination: 8, 16 or 32; 0 where there is none.
    pub(crate) unit_bits: u8,
    /// 0 no, 1 to f16, 2 to bf16.
    pub(crate) narrow_to: u8,
    /// Planes of `join_planes`; otherwise 0.
    pub(crate) planes: u8,
    /// The round of `unrotate`; of an op none.
    pub(crate) round: Option<u8>,
}

impl Form {
    /// That of a shader that is no op and stands alone.
    pub(crate) fn alone(shader: &Shader) -> Form {
        Form { op: shader.name, unit_bits: 0, narrow_to: 0, planes: 0, round: None }
    }
}

/// The pipelines made so far.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    made: Mutex<HashMap<Form, Arc<wgpu::ComputePipeline>>>,
}

impl Pipelines {
    /// The pipeline of this form. A failure is reported to the error scope that is open.
    pub(crate) fn get(
        &self,
        device: &wgpu::Device,
        shader: &Shader,
        form: Form,
    ) -> Arc<wgpu::ComputePipeline> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(form).or_insert_with(|| Arc::new(make(device, shader, form))).clone()
    }

    /// Forgets all of them: one that was made while the device failed is of no use.
    pub(crate) fn clear(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn make(device: &wgpu::Device, shader: &Shader, form: Form) -> wgpu::ComputePipeline {
    let label = Some(shader.name);
    // With bounds checks: nothing that a file says can make a shader leave its buffers.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(shader.source.into()),
    });
    let entries: Vec<_> = shader
        .bindings
        .iter()
        .map(|binding| wgpu::BindGroupLayoutEntry {
            binding: binding.number,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let bind_group =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&bind_group)],
        immediate_size: 0,
    });
    let mut constants = Vec::new();
    if form.unit_bits > 0 {
        constants
            .extend([("UNIT_BITS", f64::from(form.unit_bits)), ("NARROW_TO", f64::from(form.narrow_to))]);
    }
    if form.planes > 0 {
        constants.push(("PLANES", f64::from(form.planes)));
    }
    if let Some(round) = form.round {
        // It has no frame.
        constants = vec![("ROUND", f64::from(round))];
    }
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&layout),
        module: &module,
        entry_point: Some(shader.entry),
        compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
        cache: None,
    })
}
