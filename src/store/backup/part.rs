//! The file of one table: a JSON array a line, one value a column.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::hex::hex;

/// A row longer than this is none of ours. In bytes.
const LONGEST_ROW: u64 = 64 * 1024 * 1024;

/// Counts and hashes what is written through it.
pub(super) struct Writer {
    file: BufWriter<File>,
    digest: Context,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Writer {
    /// A new file that only its owner may read.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file: BufWriter::new(file), digest: Context::new(&SHA256), rows: 0, bytes: 0 })
    }

    pub(super) fn row(&mut self, values: &[serde_json::Value]) -> io::Result<()> {
        let mut line = serde_json::to_vec(values)?;
        line.push(b'\n');
        self.digest.update(&line);
        self.rows += 1;
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }

    /// Makes it durable. Returns its SHA-256.
    pub(super) fn finish(self) -> io::Result<String> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(hex(self.digest.finish().as_ref()))
    }
}

/// Reads rows, and hashes what was read.
pub(super) struct Reader {
    file: BufReader<File>,
    digest: Context,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), digest: Context::new(&SHA256), rows: 0, bytes: 0 })
    }

    /// The next row; none at the end.
    pub(super) fn row(&mut self) -> io::Result<Option<Vec<serde_json::Value>>> {
        let mut line = Vec::new();
        let length = io::Read::take(&mut self.file, LONGEST_ROW).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(None);
        }
        self.digest.update(&line);
        self.rows += 1;
        self.bytes += length as u64;
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// SHA-256 of what was read.
    pub(super) fn sha256(self) -> String {
        hex(self.digest.finish().as_ref())
    }
}
