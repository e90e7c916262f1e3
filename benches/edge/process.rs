//! What the kernel knows of a process and its living children: time on the processor, memory, bounds.

use anyhow::{Context, Result};

/// User and system time so far, of all threads.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut sum = stat(pid)?.seconds;
    for child in children(pid)? {
        // One that has just ended is counted by nobody.
        sum += stat(child).map_or(0.0, |stat| stat.seconds);
    }
    Ok(sum)
}

/// Resident memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for pid in std::iter::once(pid).chain(children(pid)?) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        sum += line.trim().trim_end_matches("kB").trim().parse::<f64>()?;
    }
    Ok(sum)
}

/// How many files this process may open: now, and at most.
pub(crate) fn open_files() -> Result<(u64, u64)> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit")?;
    let mut bounds = line.split_whitespace().map(|bound| bound.parse().unwrap_or(u64::MAX));
    Ok((bounds.next().context("a soft limit")?, bounds.next().context("a hard limit")?))
}

struct Stat {
    parent: u32,
    seconds: f64,
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(other) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if stat(other).is_ok_and(|stat| stat.parent == pid) {
            found.push(other);
        }
    }
    Ok(found)
}

fn stat(pid: u32) -> Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold anything; fields count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().context("fields")?.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse::<u64>()? as f64) };
    // proc(5): fields 14 and 15 of the whole line, in ticks of 1/100 s on Linux.
    Ok(Stat {
        parent: fields.get(1).context("a parent")?.parse()?,
        seconds: (ticks(11)? + ticks(12)?) / 100.0,
    })
}
