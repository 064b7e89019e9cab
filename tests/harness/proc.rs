//! What /proc says about a process: its descriptors, mappings, memory, children.

use std::path::PathBuf;

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// A number out of /proc/PID/status, such as `VmHWM` in KiB; 0 when the process is gone.
pub fn status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(path(pid, "status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// What the descriptors of a process point at, by number.
pub fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir(path(pid, "fd")) else { return Vec::new() };
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found
}

/// The text of /proc/PID/maps.
pub fn maps(pid: u32) -> String {
    std::fs::read_to_string(path(pid, "maps")).unwrap_or_default()
}

/// The direct children of a process, by all its threads.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(path(pid, "task")) else { return Vec::new() };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// The command line of a process, arguments separated by spaces.
pub fn command_line(pid: u32) -> String {
    let raw = std::fs::read(path(pid, "cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
}

/// Is there such a process (and not only its remains)?
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(path(pid, "stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// How long a thread has waited for a CPU while it could run; 0 where the kernel does not say.
pub fn run_delay_ns(pid: u32, tid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(path(pid, "task")) else { return Vec::new() };
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The letter of a thread's state, as in proc_pid_stat(5); that of a sleeping one where there is no such thread.
fn state(pid: u32, tid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('S')
}

/// Has a signal stopped all threads of a process?
pub fn is_stopped(pid: u32) -> bool {
    threads(pid).into_iter().all(|tid| state(pid, tid) == 'T')
}

/// Does no thread of a process, or of its children, run or wait for a disk?
pub fn is_idle(pid: u32) -> bool {
    let sleeps = |pid: u32| threads(pid).into_iter().all(|tid| !matches!(state(pid, tid), 'R' | 'D'));
    sleeps(pid) && children(pid).into_iter().all(sleeps)
}
