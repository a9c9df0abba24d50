//! Which device decodes, and why.
//!
//! A kind of device is *probed*: each device that is found is a candidate with a report, and so is the reason where there
//! is none. A choice picks among the candidates; only the one picked is opened. Another backend is one variant of
//! [`AnyBackend`], one arm of `probe`, and an arm in each `match` that the compiler then lists.

use std::fmt;
use std::str::FromStr;

use cvc_codec::{
    Backend, DType, DecodePlan, DeviceInfo, DeviceKind, Element, Found, HostBuffer, Metric, Queries,
    Unsupported,
};
use cvc_cpu::CpuBackend;
#[cfg(feature = "cuda")]
use cvc_cuda::CudaBackend;
#[cfg(feature = "wgpu")]
use cvc_wgpu::WgpuBackend;

use crate::error::Error;
use crate::reader::Array;
use crate::select::Rows;

/// Which device a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// CUDA, then wgpu on a real GPU, then the processor: the first that can be had.
    #[default]
    Auto,
    /// The first device of this kind or an error; never another kind.
    Only(DeviceKind),
    /// The device of this kind with this number, as [`devices`] counts them, or an error.
    Nth(DeviceKind, usize),
    /// The first device of this kind whose name contains this text, in letters of either case, or an error.
    Named(DeviceKind, String),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    /// `auto`; or `cpu`, `cuda`, `wgpu`, of which `:` and a number or a part of a name can choose one.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, which) = text.split_once(':').map_or((text, None), |(kind, which)| (kind, Some(which)));
        let kind = KINDS.into_iter().find(|known| known.name() == kind);
        match (text, kind, which) {
            ("auto", ..) => Ok(DeviceChoice::Auto),
            (_, Some(kind), None) => Ok(DeviceChoice::Only(kind)),
            (_, Some(kind), Some(which)) if !which.is_empty() => Ok(match which.parse() {
                Ok(number) => DeviceChoice::Nth(kind, number),
                Err(_) => DeviceChoice::Named(kind, which.into()),
            }),
            _ => {
                let problem =
                    "one of auto, cpu, cuda, wgpu is needed, or a device of a kind, like wgpu:0 or wgpu:NAME";
                Err(Error::argument("device", text, problem))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Only(kind) => kind.fmt(f),
            DeviceChoice::Nth(kind, number) => write!(f, "{kind}:{number}"),
            DeviceChoice::Named(kind, name) => write!(f, "{kind}:{name}"),
        }
    }
}

/// What was found out about a device, or about a kind of which there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceReport {
    /// The kind.
    pub kind: DeviceKind,
    /// Its number among those of its kind, where there is one.
    pub number: Option<usize>,
    /// What the device calls itself, where there is one.
    pub name: Option<String>,
    /// Whether it can be used.
    pub available: bool,
    /// Whether automatic choice may take it.
    pub automatic: bool,
    /// Why it can be used or cannot, and why automatic choice would not take it.
    pub reason: String,
    /// Limits of the device by name, in bytes unless the name says otherwise.
    pub limits: Vec<(&'static str, u64)>,
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}: {}", self.kind, self.reason),
            None => write!(f, "{}: {}", self.kind, self.reason),
        }
    }
}

/// A backend that was chosen at run time, for callers that cannot be generic over it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyBackend {
    /// The processor.
    Cpu(CpuBackend),
    /// A GPU, or a program that plays one.
    #[cfg(feature = "wgpu")]
    Wgpu(Box<WgpuBackend>),
    /// A card of NVIDIA's.
    #[cfg(feature = "cuda")]
    Cuda(Box<CudaBackend>),
}

/// The device that was taken, and what was found out about those before it.
#[derive(Debug)]
pub struct Chosen {
    /// The backend.
    pub backend: AnyBackend,
    /// What is known of its device.
    pub report: DeviceReport,
    /// Why the devices that come first in the order were passed over.
    pub passed_over: Vec<DeviceReport>,
}

/// The kinds in the order of automatic choice.
const KINDS: [DeviceKind; 3] = [DeviceKind::Cuda, DeviceKind::Wgpu, DeviceKind::Cpu];

/// What is known of every device, in the order of automatic choice. A kind without a device has one report, which says why.
pub fn devices() -> Vec<DeviceReport> {
    KINDS.into_iter().flat_map(probe).map(|candidate| candidate.report).collect()
}

/// Takes a device.
///
/// # Errors
/// The device that was asked for cannot be had.
pub fn choose(choice: &DeviceChoice) -> Result<Chosen, Error> {
    choose_for(choice, |_| Ok(()), Error::unsupported).map(|(chosen, ())| chosen)
}

/// Takes a device and has `work` done on it. If the choice is automatic, a device that cannot do this work is passed over like one
/// that cannot be had, and the next is asked; another choice never falls back.
///
/// `unsupported` says of what `work` failed with whether the device cannot do it; for [`Error`] it is [`Error::unsupported`].
///
/// # Errors
/// The device that was asked for cannot be had, or the work failed.
pub fn choose_for<T, E: From<Error>>(
    choice: &DeviceChoice,
    work: impl FnMut(&AnyBackend) -> Result<T, E>,
    unsupported: impl Fn(&E) -> Option<&Unsupported>,
) -> Result<(Chosen, T), E> {
    match choice {
        DeviceChoice::Auto => {
            let worth_it = |kind| match not_worth_probing(kind) {
                Some(reason) => vec![Candidate::none(kind, reason)],
                None => probe(kind),
            };
            choose_automatically(worth_it, work, unsupported)
        }
        _ => choose_explicitly(choice, probe, work),
    }
}

/// [`choose_for`] for a choice that is not automatic, whatever there is to choose among.
fn choose_explicitly<T, E: From<Error>>(
    choice: &DeviceChoice,
    probe: impl Fn(DeviceKind) -> Vec<Candidate>,
    mut work: impl FnMut(&AnyBackend) -> Result<T, E>,
) -> Result<(Chosen, T), E> {
    let chosen = choose_among(choice, probe)?;
    let done = work(&chosen.backend)?;
    Ok((chosen, done))
}

/// [`choose`], whatever there is to choose among.
fn choose_among(
    choice: &DeviceChoice,
    probe: impl Fn(DeviceKind) -> Vec<Candidate>,
) -> Result<Chosen, Error> {
    let (kind, wanted): (_, &dyn Fn(&DeviceReport) -> bool) = match choice {
        DeviceChoice::Auto => {
            return choose_automatically(probe, |_| Ok(()), Error::unsupported).map(|(chosen, ())| chosen);
        }
        DeviceChoice::Only(kind) => (*kind, &|_| true),
        DeviceChoice::Nth(kind, number) => (*kind, &|report| report.number == Some(*number)),
        DeviceChoice::Named(kind, text) => (*kind, &|report| {
            let name = report.name.as_deref().unwrap_or_default();
            name.to_lowercase().contains(&text.to_lowercase())
        }),
    };
    let unavailable = |reason| Error::Device { device: choice.to_string(), reason };
    let candidates = probe(kind);
    let found: Vec<String> = candidates.iter().filter_map(|candidate| candidate.report.address()).collect();
    let mut wanted: Vec<Candidate> =
        candidates.into_iter().filter(|candidate| found.is_empty() || wanted(&candidate.report)).collect();
    if wanted.is_empty() {
        return Err(unavailable(format!("there is no such device; those found are {}", found.join(", "))));
    }
    // One that cannot be used only if there is no other.
    let taken = wanted.iter().position(|candidate| candidate.report.available).unwrap_or(0);
    let Candidate { report, open } = wanted.swap_remove(taken);
    if !report.available {
        return Err(unavailable(report.reason));
    }
    let backend = open().map_err(unavailable)?;
    Ok(Chosen { backend, report, passed_over: Vec::new() })
}

/// The first candidate that automatic choice may take, that can be opened, and that can do the work.
fn choose_automatically<T, E: From<Error>>(
    probe: impl Fn(DeviceKind) -> Vec<Candidate>,
    mut work: impl FnMut(&AnyBackend) -> Result<T, E>,
    unsupported: impl Fn(&E) -> Option<&Unsupported>,
) -> Result<(Chosen, T), E> {
    let mut passed_over = Vec::new();
    // One kind after another: what is not needed is not even looked for.
    for Candidate { mut report, open } in KINDS.into_iter().flat_map(probe) {
        if report.available && report.automatic {
            match open() {
                Ok(backend) => match work(&backend) {
                    Ok(done) => return Ok((Chosen { backend, report, passed_over }, done)),
                    Err(error) => match unsupported(&error) {
                        Some(Unsupported { step, reason, .. }) => {
                            report.reason = format!("it cannot do {step}: {reason}");
                        }
                        None => return Err(error),
                    },
                },
                Err(reason) => {
                    report.available = false;
                    report.reason = reason;
                }
            }
        }
        passed_over.push(report);
    }
    let reason = "no device can be used".into();
    Err(Error::Device { device: DeviceChoice::Auto.to_string(), reason }.into())
}

/// A device that could be taken, or the report on a kind of which there is none.
struct Candidate {
    report: DeviceReport,
    /// Called only if the report says that it is available. Fails with the reason.
    open: Box<dyn FnOnce() -> Result<AnyBackend, String>>,
}

impl Candidate {
    /// No device of this kind, for this reason, which ends with what to do.
    fn none(kind: DeviceKind, reason: impl Into<String>) -> Candidate {
        let reason = reason.into();
        let report = DeviceReport {
            kind,
            number: None,
            name: None,
            available: false,
            automatic: false,
            reason: reason.clone(),
            limits: Vec::new(),
        };
        Candidate { report, open: Box::new(|| Err(reason)) }
    }
}

impl DeviceReport {
    /// The device as it is asked for, with its name.
    fn address(&self) -> Option<String> {
        Some(format!("{}:{} ({})", self.kind, self.number?, self.name.as_deref()?))
    }
}

/// Why automatic choice can do without looking for devices of this kind, which loads drivers.
fn not_worth_probing(kind: DeviceKind) -> Option<String> {
    match kind {
        #[cfg(feature = "wgpu")]
        DeviceKind::Wgpu if !cvc_wgpu::may_have_gpu() => {
            Some("the system has no device file of a GPU, so no driver was loaded: ask for wgpu to look all the same".into())
        }
        _ => None,
    }
}

/// Looks for the devices of one kind, the best first. Opens none.
fn probe(kind: DeviceKind) -> Vec<Candidate> {
    match kind {
        DeviceKind::Cpu => {
            let backend = CpuBackend::new();
            let report = DeviceReport {
                kind,
                number: Some(0),
                name: Some(backend.device().name.clone()),
                available: true,
                automatic: true,
                reason: "always there".into(),
                limits: Vec::new(),
            };
            vec![Candidate { report, open: Box::new(|| Ok(AnyBackend::Cpu(backend))) }]
        }
        #[cfg(feature = "wgpu")]
        DeviceKind::Wgpu => probe_wgpu(),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => probe_cuda(),
        _ => vec![Candidate::none(kind, format!("this build of cvc has no {kind} backend; use the cpu"))],
    }
}

#[cfg(feature = "cuda")]
fn probe_cuda() -> Vec<Candidate> {
    let cards = match cvc_cuda::cards() {
        Ok(cards) => cards,
        Err(none) => return vec![Candidate::none(DeviceKind::Cuda, none.to_string())],
    };
    let candidate = |card: cvc_cuda::Card| {
        let usable = card.usable();
        let index = card.index;
        let (major, minor) = card.capability;
        let report = DeviceReport {
            kind: DeviceKind::Cuda,
            number: Some(index),
            name: Some(card.name),
            available: usable.is_ok(),
            automatic: usable.is_ok(),
            reason: usable.err().unwrap_or_else(|| {
                format!("compute capability {major}.{minor}, with a driver that supports CUDA {}", card.cuda)
            }),
            limits: vec![("memory_bytes", card.memory)],
        };
        let open = move || {
            CudaBackend::new(index)
                .map(|backend| AnyBackend::Cuda(Box::new(backend)))
                .map_err(|error| error.to_string())
        };
        Candidate { report, open: Box::new(open) }
    };
    cards.into_iter().map(candidate).collect()
}

#[cfg(feature = "wgpu")]
fn probe_wgpu() -> Vec<Candidate> {
    let adapters = match cvc_wgpu::adapters() {
        Ok(adapters) => adapters,
        Err(none) => return vec![Candidate::none(DeviceKind::Wgpu, none.to_string())],
    };
    let candidate = |(number, adapter): (usize, cvc_wgpu::Adapter)| {
        let usable = adapter.check();
        let limits = adapter.limits();
        let report = DeviceReport {
            kind: DeviceKind::Wgpu,
            number: Some(number),
            name: Some(adapter.name()),
            available: usable.is_ok(),
            automatic: usable.is_ok() && !adapter.is_software(),
            reason: match &usable {
                Err(error) => error.to_string(),
                Ok(()) if adapter.is_software() => {
                    "it is software, without which the cpu backend does the same: only taken if asked for"
                        .into()
                }
                Ok(()) => "a GPU".into(),
            },
            limits: vec![
                ("buffer_bytes", limits.max_buffer_size),
                ("binding_bytes", limits.max_storage_buffer_binding_size),
                ("workgroups_along_a_dispatch", u64::from(limits.max_compute_workgroups_per_dimension)),
            ],
        };
        let open = move || {
            WgpuBackend::open(&adapter)
                .map(|backend| AnyBackend::Wgpu(Box::new(backend)))
                .map_err(|error| error.to_string())
        };
        Candidate { report, open: Box::new(open) }
    };
    adapters.into_iter().enumerate().map(candidate).collect()
}

impl AnyBackend {
    /// The device's kind and name.
    pub fn device(&self) -> &DeviceInfo {
        match self {
            AnyBackend::Cpu(backend) => backend.device(),
            #[cfg(feature = "wgpu")]
            AnyBackend::Wgpu(backend) => backend.device(),
            #[cfg(feature = "cuda")]
            AnyBackend::Cuda(backend) => backend.device(),
        }
    }

    /// Whether the device can run `plan`.
    ///
    /// # Errors
    /// Why not, and what to do instead.
    pub fn supports(&self, plan: &DecodePlan) -> Result<(), Unsupported> {
        match self {
            AnyBackend::Cpu(backend) => backend.supports(plan),
            #[cfg(feature = "wgpu")]
            AnyBackend::Wgpu(backend) => backend.supports(plan),
            #[cfg(feature = "cuda")]
            AnyBackend::Cuda(backend) => backend.supports(plan),
        }
    }

    /// The steps of `plan` and where each runs: `inflate zstd on the host, join_planes on the device`. The caller has asked
    /// whether it is [supported](AnyBackend::supports).
    pub fn explain(&self, plan: &DecodePlan) -> String {
        match self {
            AnyBackend::Cpu(backend) => backend.explain(plan),
            #[cfg(feature = "wgpu")]
            AnyBackend::Wgpu(backend) => backend.explain(plan),
            #[cfg(feature = "cuda")]
            AnyBackend::Cuda(backend) => backend.explain(plan),
        }
    }

    /// How rows of an array are searched by a metric: on the device, or on the host where the device has no bounds for it.
    ///
    /// # Errors
    /// The array has a codec that is not known.
    pub fn explain_scan(&self, array: &Array<'_>, metric: Metric) -> Result<String, Error> {
        let name = &self.device().name;
        let why_not = self.why_not(array, metric)?;
        Ok(match why_not {
            _ if self.device().kind == DeviceKind::Cpu => format!("searched on {name}"),
            None => format!("decoded, bounded and the best rows kept on {name}, exact scores on the host"),
            Some(reason) => format!("searched on the host, not on {name}: {reason}"),
        })
    }

    /// Why a device other than the processor leaves a search to the host.
    fn why_not(&self, array: &Array<'_>, metric: Metric) -> Result<Option<String>, Error> {
        let dtype = array.dtype()?;
        // What no metric is for is refused by the search itself.
        let dtype = Queries::row_dtype(metric, dtype).unwrap_or(dtype);
        Ok(cvc_codec::filter::why_not(metric, array.dim(), dtype))
    }

    /// The `k` best of the chosen rows for each query: [`Array::scan`] on any device. Where the device has no bounds for the metric or the
    /// dtype, the processor does it ([`AnyBackend::explain_scan`] says so); the result is the same.
    ///
    /// # Errors
    /// As [`Array::scan`], and if the device fails.
    pub fn scan(
        &self,
        array: &Array<'_>,
        rows: impl Into<Rows>,
        queries: &Queries<'_>,
        k: usize,
    ) -> Result<Found, Error> {
        match self {
            AnyBackend::Cpu(backend) => array.scan(backend, rows, queries, k),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            _ if self.why_not(array, queries.metric())?.is_some() => {
                array.scan(&CpuBackend::new(), rows, queries, k)
            }
            #[cfg(feature = "wgpu")]
            AnyBackend::Wgpu(backend) => array.scan(&**backend, rows, queries, k),
            #[cfg(feature = "cuda")]
            AnyBackend::Cuda(backend) => array.scan(&**backend, rows, queries, k),
        }
    }

    /// Decodes rows to values of `out` on the device and brings them to the caller's memory.
    ///
    /// # Errors
    /// As [`Array::decode`], and if the device fails.
    pub fn read_into(
        &self,
        array: &Array<'_>,
        rows: impl Into<Rows>,
        out: DType,
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), Error> {
        match self {
            AnyBackend::Cpu(backend) => array.decode(backend, rows, out, dst),
            #[cfg(feature = "wgpu")]
            AnyBackend::Wgpu(backend) => array.decode_to_host(&**backend, rows, out, dst),
            #[cfg(feature = "cuda")]
            AnyBackend::Cuda(backend) => array.decode_to_host(&**backend, rows, out, dst),
        }
    }

    /// The chosen rows as values of type `T`, decoded on the device and brought to the caller's memory: [`Array::read`] on
    /// any device.
    ///
    /// # Errors
    /// As [`Array::read`], and if the device fails.
    pub fn read<T: Element>(&self, array: &Array<'_>, rows: impl Into<Rows>) -> Result<Vec<T>, Error> {
        let rows = rows.into();
        let len = array.decoded_len(rows.clone(), T::DTYPE)?;
        let mut values = vec![T::zeroed(); len / size_of::<T>()];
        self.read_into(array, rows, T::DTYPE, &mut HostBuffer::fresh(&mut values))?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices of a machine: name, whether it is available, whether automatic choice may take it, whether it opens.
    fn candidate(kind: DeviceKind, number: usize, name: &str, state: [bool; 3]) -> Candidate {
        let [available, automatic, opens] = state;
        let report = DeviceReport {
            kind,
            number: Some(number),
            name: Some(name.into()),
            available,
            automatic,
            reason: format!("{name} as it was found"),
            limits: Vec::new(),
        };
        let open = move || {
            if opens {
                Ok(AnyBackend::Cpu(CpuBackend::new()))
            } else {
                Err("did not open: restart it".into())
            }
        };
        Candidate { report, open: Box::new(open) }
    }

    /// A card that does not open, a software adapter, and the processor.
    fn machine(kind: DeviceKind) -> Vec<Candidate> {
        match kind {
            DeviceKind::Wgpu => vec![
                candidate(kind, 0, "Old Card", [false, true, false]),
                candidate(kind, 1, "Broken Card", [true, true, false]),
                candidate(kind, 2, "softpipe", [true, false, true]),
            ],
            DeviceKind::Cpu => vec![candidate(kind, 0, "processor", [true, true, true])],
            _ => vec![Candidate::none(kind, "no driver: install one")],
        }
    }

    fn of_machine(choice: &str) -> Result<Chosen, String> {
        let choice: DeviceChoice = choice.parse().unwrap();
        assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        choose_among(&choice, machine).map_err(|error| error.to_string())
    }

    #[test]
    fn automatic_choice_says_why_the_others_were_passed_over() {
        let chosen = of_machine("auto").unwrap();
        assert_eq!(chosen.report.kind, DeviceKind::Cpu);
        let passed_over: Vec<String> = chosen.passed_over.iter().map(ToString::to_string).collect();
        assert_eq!(
            passed_over,
            [
                "cuda: no driver: install one",
                "wgpu Old Card: Old Card as it was found",
                "wgpu Broken Card: did not open: restart it",
                "wgpu softpipe: softpipe as it was found",
            ]
        );
        // Whatever this machine has: the kinds before the one taken are accounted for.
        let chosen = choose(&DeviceChoice::Auto).unwrap();
        assert_eq!(chosen.backend.device().kind, chosen.report.kind);
        for kind in KINDS.into_iter().take_while(|kind| *kind != chosen.report.kind) {
            let of_kind = |report: &&DeviceReport| report.kind == kind && !report.reason.is_empty();
            assert!(chosen.passed_over.iter().find(of_kind).is_some(), "{kind}");
            assert!(devices().iter().any(|report| report.kind == kind), "{kind}");
        }
    }

    /// A card, and the processor.
    fn machine_with_a_card(kind: DeviceKind) -> Vec<Candidate> {
        match kind {
            DeviceKind::Cuda => vec![candidate(kind, 0, "New Card", [true, true, true])],
            DeviceKind::Cpu => vec![candidate(kind, 0, "processor", [true, true, true])],
            _ => vec![Candidate::none(kind, "no driver: install one")],
        }
    }

    #[test]
    fn a_device_that_cannot_do_the_work_is_passed_over_and_only_by_automatic_choice() {
        let cannot = || Error::from(Unsupported::new(DeviceKind::Cuda, "search", "it has no kernels"));
        let mut asked = 0;
        let work = |_: &AnyBackend| {
            asked += 1;
            if asked == 1 { Err(cannot()) } else { Ok(asked) }
        };
        let (chosen, done) = choose_automatically(machine_with_a_card, work, Error::unsupported).unwrap();
        assert_eq!((chosen.report.kind, done), (DeviceKind::Cpu, 2));
        let passed_over: Vec<String> = chosen.passed_over.iter().map(ToString::to_string).collect();
        assert_eq!(passed_over[0], "cuda New Card: it cannot do search: it has no kernels");

        let cuda = "cuda".parse().unwrap();
        let error = choose_explicitly(&cuda, machine_with_a_card, |_| Err::<(), _>(cannot())).unwrap_err();
        assert!(
            error.unsupported().is_some() && error.to_string().contains("choose another device"),
            "{error}"
        );

        // Anything else that goes wrong is not for another device to mend.
        let broken = || Error::argument("rows", "9..8", "backwards");
        let work = |_: &AnyBackend| Err::<(), _>(broken());
        let error = choose_automatically(machine_with_a_card, work, Error::unsupported).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }));
    }

    #[test]
    fn an_explicit_choice_never_falls_back() {
        for (choice, problem) in [
            ("cuda", "device cuda is not available: no driver: install one"),
            ("cuda:0", "device cuda:0 is not available: no driver: install one"),
            // The first that is available, and no other after it.
            ("wgpu", "device wgpu is not available: did not open"),
            ("wgpu:old", "device wgpu:old is not available: Old Card as it was found"),
            ("wgpu:3", "those found are wgpu:0 (Old Card), wgpu:1 (Broken Card), wgpu:2 (softpipe)"),
            ("wgpu:4090", "there is no such device"),
            ("cpu:gpu", "those found are cpu:0 (processor)"),
        ] {
            let error = of_machine(choice).unwrap_err();
            assert!(error.contains(problem), "{choice}: {error}");
        }
    }

    #[test]
    fn devices_are_chosen_by_number_and_by_name() {
        for choice in ["wgpu:2", "wgpu:SoftPipe", "wgpu:pipe"] {
            assert_eq!(of_machine(choice).unwrap().report.name.as_deref(), Some("softpipe"), "{choice}");
        }
        assert_eq!(of_machine("cpu:0").unwrap().report.kind, DeviceKind::Cpu);
        for nonsense in ["gpu", "", ":", "wgpu:", "auto:0", "cpu "] {
            assert!(nonsense.parse::<DeviceChoice>().unwrap_err().is_usage(), "{nonsense:?}");
        }
    }
}
