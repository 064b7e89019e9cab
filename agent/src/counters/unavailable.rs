//! Why a counter is not available, and what to do about it.

use crate::sys::Errno;

/// The reason why a counter is not available. One byte in the segment: numbers are layout, 0 means available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Unavailable {
    /// ENOENT, ENODEV, ENXIO: no such event on this machine.
    NoSuchEvent = 1,
    /// EACCES: kernel.perf_event_paranoid forbids it.
    Paranoid = 2,
    /// EPERM: a sandbox, or no permission.
    NotPermitted = 3,
    /// EMFILE, ENFILE: the limit of open descriptors is reached.
    DescriptorLimit = 4,
    /// ENOSYS: a kernel, or a sandbox, without perf_event_open.
    NoPerfEvents = 5,
    /// ENOMEM: the kernel has no memory for it.
    OutOfMemory = 6,
    /// A system call filter would kill the server for trying.
    SeccompKills = 7,
    /// Whether a system call filter would kill the server could not be found out, so it was not tried.
    SeccompUnknown = 8,
    /// The share of descriptors that the agent allows itself is used up.
    DescriptorBudget = 9,
    /// The server closed the event's descriptor.
    Stolen = 10,
    /// EINVAL, EOPNOTSUPP, E2BIG: the event exists but not in this form.
    NotSupported = 11,
    /// It happens in kernel mode only, which this process may not count.
    KernelModeOnly = 12,
    /// EBUSY: another user has the counter for itself.
    Busy = 13,
    /// A number or a type that this version of the agent does not know.
    Unknown = 14,
    /// Any other error of the kernel.
    Failed = 15,
}

impl Unavailable {
    /// The reason that byte `code` of the segment stands for; `None` for 0 (available) and for unknown numbers.
    pub fn from_code(code: u8) -> Option<Unavailable> {
        ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// The reason behind an errno of perf_event_open(2).
    pub fn from_errno(errno: Errno) -> Unavailable {
        match errno.0 {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Unavailable::NoSuchEvent,
            libc::EACCES => Unavailable::Paranoid,
            libc::EPERM => Unavailable::NotPermitted,
            libc::EMFILE | libc::ENFILE => Unavailable::DescriptorLimit,
            libc::ENOSYS => Unavailable::NoPerfEvents,
            libc::ENOMEM => Unavailable::OutOfMemory,
            libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG => Unavailable::NotSupported,
            libc::EBUSY => Unavailable::Busy,
            _ => Unavailable::Failed,
        }
    }

    /// What is the matter, as the end of a sentence: "cycles: not available, …".
    pub fn why(self) -> &'static str {
        match self {
            Unavailable::NoSuchEvent => {
                "this machine has no such event (virtual machines mostly have no hardware counters)"
            }
            Unavailable::Paranoid => "the kernel setting perf_event_paranoid forbids it to this user",
            Unavailable::NotPermitted => {
                "permission refused, by a container's sandbox or for want of CAP_PERFMON"
            }
            Unavailable::DescriptorLimit => "the limit of open files is reached",
            Unavailable::NoPerfEvents => "the kernel, or a sandbox, does not offer perf_event_open",
            Unavailable::OutOfMemory => "the kernel has no memory for the event",
            Unavailable::SeccompKills => "a system call filter kills processes that call perf_event_open",
            Unavailable::SeccompUnknown => {
                "whether a system call filter kills for perf_event_open could not be tried out safely"
            }
            Unavailable::DescriptorBudget => "the agent's share of the server's open files is used up",
            Unavailable::Stolen => "the server closed the event's descriptor",
            Unavailable::NotSupported => {
                "the processor or the kernel does not support the event in this form"
            }
            Unavailable::KernelModeOnly => "it happens in kernel mode only, which this user may not count",
            Unavailable::Busy => "another user holds the counter exclusively",
            Unavailable::Unknown => "the library in the server does not know this counter",
            Unavailable::Failed => "the kernel refused it with an unexpected error",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Unavailable::NoSuchEvent => {
                "use cpu_ns and the software events, or a machine (or a VM type) with a virtual PMU"
            }
            Unavailable::Paranoid => {
                "sysctl kernel.perf_event_paranoid=1 (2 still gives user mode), or grant CAP_PERFMON"
            }
            Unavailable::NotPermitted => {
                "grant CAP_PERFMON (docker run --cap-add PERFMON; systemd: AmbientCapabilities=CAP_PERFMON) and allow \
                 perf_event_open in the seccomp profile"
            }
            Unavailable::DescriptorLimit => {
                "raise LimitNOFILE= of the service (ulimit -n), or name fewer events"
            }
            Unavailable::NoPerfEvents => {
                "use cpu_ns and the other counters that need no perf, or another kernel or sandbox"
            }
            Unavailable::OutOfMemory => "name fewer events",
            Unavailable::SeccompKills | Unavailable::SeccompUnknown => {
                "allow perf_event_open in the filter (systemd: SystemCallFilter=perf_event_open)"
            }
            Unavailable::DescriptorBudget => {
                "raise LimitNOFILE= of the service (a tenth of it is used at most; PostgreSQL backends use at most 5), or \
                 name fewer events"
            }
            Unavailable::Stolen => "switch capture off and on again; the next start opens it anew",
            Unavailable::NotSupported => "name it without :u or :k, or another event",
            Unavailable::KernelModeOnly => {
                "sysctl kernel.perf_event_paranoid=1 or CAP_PERFMON; switches_voluntary and switches_involuntary need neither"
            }
            Unavailable::Busy => "stop the other profiler",
            Unavailable::Unknown => "restart the server with the library of this version",
            Unavailable::Failed => "look at the kernel's log (dmesg)",
        }
    }
}

/// All reasons, in the order of their numbers.
pub const ALL: [Unavailable; 15] = [
    Unavailable::NoSuchEvent,
    Unavailable::Paranoid,
    Unavailable::NotPermitted,
    Unavailable::DescriptorLimit,
    Unavailable::NoPerfEvents,
    Unavailable::OutOfMemory,
    Unavailable::SeccompKills,
    Unavailable::SeccompUnknown,
    Unavailable::DescriptorBudget,
    Unavailable::Stolen,
    Unavailable::NotSupported,
    Unavailable::KernelModeOnly,
    Unavailable::Busy,
    Unavailable::Unknown,
    Unavailable::Failed,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_way_through_a_byte_and_any_other_byte_is_none() {
        for reason in ALL {
            assert_eq!(Unavailable::from_code(reason as u8), Some(reason));
            assert!(!reason.why().is_empty() && !reason.remedy().is_empty());
        }
        assert_eq!(Unavailable::from_code(0), None);
        assert_eq!(Unavailable::from_code(ALL.len() as u8 + 1), None);
        assert_eq!(Unavailable::from_code(255), None);
    }
}
