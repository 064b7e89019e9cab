//! aarch64: the instructions that find a thread's storage.

/// The pointer is in a register that everybody may read.
macro_rules! read_thread_pointer {
    () => {
        "mrs {pointer}, tpidr_el0"
    };
}
pub(super) use read_thread_pointer;

/// The anchor's distance from it.
macro_rules! read_anchor_offset {
    () => {
        "adrp {offset}, :gottprel:perquery_anchor\nldr {offset}, [{offset}, :gottprel_lo12:perquery_anchor]"
    };
}
pub(super) use read_anchor_offset;
