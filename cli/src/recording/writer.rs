//! Writes recordings.

use super::batch::Encoder;
use super::meta::{End, InFlight, Losses, Meta, WarningText};
use super::{FILE_HEADER_LEN, MAGIC, VERSION, frame, kind};
use crate::aggregate::Sample;
use crate::warnings::Warning;
use serde::Serialize;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A batch is written when it has so many bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// Batches per dictionary: damage to one costs the texts of at most so many.
const BATCHES_PER_DICTIONARY: u32 = 64;

/// Creates the file of a recording, readable by its owner only: statements and users' names are nobody else's business.
pub fn create_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // An old file keeps its permissions when truncated. A pipe or a device is not ours to change.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Writes a recording frame by frame. After an error nothing more is written: what is in the file stays readable.
pub struct Writer<W: Write> {
    out: W,
    encoder: Encoder,
    frame: Vec<u8>,
    batches: u32,
    bytes_written: u64,
    failed: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    pub fn new(mut out: W, meta: &Meta) -> io::Result<Self> {
        let mut header = Vec::from(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.resize(FILE_HEADER_LEN, 0);
        out.write_all(&header)?;
        let bytes_written = header.len() as u64;
        let encoder = Encoder::default();
        let mut writer = Writer { out, encoder, frame: Vec::new(), batches: 0, bytes_written, failed: false };
        writer.meta(meta)?;
        Ok(writer)
    }

    /// Says anew what is recorded, when more is known than at the start. Replaces what was said before.
    pub fn meta(&mut self, meta: &Meta) -> io::Result<()> {
        self.json(kind::META, meta)
    }

    /// Adds an execution, a slice or a worker; writes when a batch is full.
    pub fn add(&mut self, sample: &Sample) -> io::Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        self.encoder.add(sample);
        if self.encoder.waiting_bytes() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what has been added.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.encoder.waiting_bytes() > 0 {
            let encoder = &mut self.encoder;
            self.frame.clear();
            frame::append(&mut self.frame, kind::BATCH, |out| encoder.finish(out));
            self.batches += 1;
            if self.batches >= BATCHES_PER_DICTIONARY || encoder.dictionary_is_full() {
                encoder.reset_dictionary();
                self.batches = 0;
            }
            self.write()?;
        }
        Ok(())
    }

    /// Records the losses so far.
    pub fn losses(&mut self, losses: &Losses) -> io::Result<()> {
        self.json(kind::LOSSES, losses)
    }

    /// Records a query that was under way when the server ended.
    pub fn in_flight(&mut self, query: &InFlight) -> io::Result<()> {
        self.json(kind::IN_FLIGHT, query)
    }

    /// Records a warning that reports cannot find out themselves.
    pub fn warning(&mut self, warning: &Warning) -> io::Result<()> {
        let text = WarningText {
            code: warning.code().to_owned(),
            message: warning.message(),
            remedy: warning.remedy().to_owned(),
        };
        self.json(kind::WARNING, &text)
    }

    /// Ends the recording after `duration_ns` and gives the output back.
    pub fn finish(mut self, duration_ns: u64) -> io::Result<W> {
        self.flush()?;
        let end = End { duration_ns, executions: self.encoder.executions() };
        self.json(kind::END, &end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Executions added.
    pub fn executions(&self) -> u64 {
        self.encoder.executions()
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Writes one frame of JSON, after what was added before.
    fn json(&mut self, kind: u8, value: &impl Serialize) -> io::Result<()> {
        self.flush()?;
        let json = serde_json::to_vec(value)?;
        if json.len() > frame::PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long for a frame of a recording"));
        }
        self.frame.clear();
        frame::append(&mut self.frame, kind, |out| out.extend_from_slice(&json));
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        let written = self.out.write_all(&self.frame);
        self.failed = written.is_err();
        self.bytes_written += self.frame.len() as u64;
        written
    }
}

fn failed_before() -> io::Error {
    io::Error::other("an earlier write to the recording failed")
}
