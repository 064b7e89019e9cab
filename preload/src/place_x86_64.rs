//! x86-64: the instructions that find a thread's storage.

/// The word at %fs:0 is the pointer itself (System V ABI for x86-64, thread-local storage).
macro_rules! read_thread_pointer {
    () => {
        "mov {pointer}, qword ptr fs:[0]"
    };
}
pub(super) use read_thread_pointer;

/// The anchor's distance from it.
macro_rules! read_anchor_offset {
    () => {
        "mov {offset}, qword ptr [rip + perquery_anchor@GOTTPOFF]"
    };
}
pub(super) use read_anchor_offset;
