//! What the kernel knows of another process and its sockets.

/// Lets the highest resident memory of a process begin anew (proc(5), `clear_refs`). Where the kernel cannot,
/// it goes on from where it was, and growth is seen later.
pub(super) fn forget_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The highest resident memory, in KiB.
pub(super) fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// User and system time so far, of all threads.
pub(super) fn processor_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The program's name stands in parentheses and may hold anything; fields count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    // proc(5): fields 14 and 15 of the whole line, in ticks of 1/100 s on Linux.
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap() as f64;
    (ticks(11) + ticks(12)) / 100.0
}

/// Connections to a port of this host that their server has not closed. Established ones, and those of which
/// only the peer has gone (`TCP_ESTABLISHED`, `TCP_CLOSE_WAIT`).
pub(super) fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let is_open = |line: &&str| {
        // sl local_address rem_address st …
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, local, _, "01" | "08"] if local.ends_with(&port))
    };
    table.lines().filter(is_open).count()
}
