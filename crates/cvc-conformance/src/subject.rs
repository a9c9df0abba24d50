//! What the suite needs of a backend under test.

use cvc_codec::{
    Backend, Batch, DType, DecodeError, DecodePlan, DeviceMemory, HostBuffer, Payloads, Unsupported,
};
use half::{bf16, f16};

/// A backend under test.
pub trait Subject: Sync {
    /// The names of ops (as [`cvc_codec::Load::name`] gives them) that this backend does not run. The suite
    /// checks that it refuses them, and that it runs all others.
    fn omitted_ops(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the backend says it runs `plan`.
    ///
    /// # Errors
    /// What the backend said.
    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported>;

    /// Decodes `batch` into a destination that was filled with poison before, and brings the bytes of all its
    /// values to the host.
    ///
    /// # Errors
    /// What the backend said.
    fn decode(&self, batch: &Batch<'_>, src: &dyn Payloads, dst: Destination)
    -> Result<Vec<u8>, DecodeError>;
}

/// A backend that takes long to open is opened once for all tests.
impl<S: Subject + ?Sized> Subject for &S {
    fn omitted_ops(&self) -> &'static [&'static str] {
        (**self).omitted_ops()
    }

    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        (**self).supports(plan)
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: Destination,
    ) -> Result<Vec<u8>, DecodeError> {
        (**self).decode(batch, src, dst)
    }
}

/// The destination that a [`Subject`] makes.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// The dtype of its values.
    pub dtype: DType,
    /// How many.
    pub values: usize,
    /// What every byte of it holds before.
    pub poison: u8,
}

/// A backend that writes to the caller's own memory.
#[derive(Clone, Debug)]
pub struct Host<B>(pub B);

impl<B> Subject for Host<B>
where
    B: for<'a> Backend<Buffer<'a> = HostBuffer<'a>>,
{
    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        self.0.supports(plan)
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: Destination,
    ) -> Result<Vec<u8>, DecodeError> {
        in_host_buffer(dst, |buffer| self.0.decode(batch, src, buffer))
    }
}

/// A backend that writes to memory of its device.
#[derive(Clone, Debug)]
pub struct Device<B>(pub B);

impl<B: DeviceMemory> Subject for Device<B> {
    fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        self.0.supports(plan)
    }

    fn decode(
        &self,
        batch: &Batch<'_>,
        src: &dyn Payloads,
        dst: Destination,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut buffer = self.0.allocate(dst.dtype, dst.values as u64)?;
        self.0.upload(&vec![dst.poison; dst.values * dst.dtype.size()], &mut buffer)?;
        self.0.decode(batch, src, &mut buffer)?;
        // Another poison: what is not brought from the device must not pass for what was left alone there.
        in_host_buffer(Destination { poison: !dst.poison, ..dst }, |host| self.0.download(&buffer, host))
    }
}

/// Lends `work` a poisoned buffer of values that lie between others, and gives what it filled it with.
fn in_host_buffer(
    dst: Destination,
    work: impl FnOnce(&mut HostBuffer<'_>) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    macro_rules! by_dtype {
        ($($dtype:ident = $rust:ty),*) => {
            match dst.dtype {
                $(DType::$dtype => in_guarded_memory::<$rust>(dst, |values| {
                    let bytes = bytemuck::cast_slice_mut(values);
                    work(&mut HostBuffer::from_bytes(dst.dtype, bytes).expect("whole values, aligned"))
                }),)*
                other => panic!("no values of {other} here yet"),
            }
        };
    }
    by_dtype!(
        I8 = i8,
        I16 = i16,
        I32 = i32,
        I64 = i64,
        U8 = u8,
        U16 = u16,
        U32 = u32,
        U64 = u64,
        F16 = f16,
        Bf16 = bf16,
        F32 = f32,
        F64 = f64,
        C64 = [f32; 2],
        C128 = [f64; 2],
        Bool = u8
    )
}

/// Lends `work` poisoned values that lie between others, at an address that is aligned for the dtype and for
/// nothing wider, and checks afterwards that the others were left alone.
fn in_guarded_memory<T: bytemuck::Pod>(
    dst: Destination,
    work: impl FnOnce(&mut [T]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    const BEFORE: usize = 1;
    const AFTER: usize = 64;
    let mut memory = vec![T::zeroed(); BEFORE + dst.values + AFTER];
    bytemuck::cast_slice_mut::<T, u8>(&mut memory).fill(dst.poison);
    let values = BEFORE..BEFORE + dst.values;
    let result = work(&mut memory[values.clone()]);
    for guard in [&memory[..values.start], &memory[values.end..]] {
        let untouched = bytemuck::cast_slice::<T, u8>(guard).iter().all(|byte| *byte == dst.poison);
        assert!(untouched, "memory around the destination was written");
    }
    result.map(|()| bytemuck::cast_slice(&memory[values]).to_vec())
}
