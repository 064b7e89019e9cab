//! Reads recordings, whatever happened to them.

use super::batch::{BatchHeader, Decoder, Recorded};
use super::frame::FrameReader;
use super::meta::{End, InFlight, Losses, Meta, WarningText};
use super::varint::Input;
use super::{FILE_HEADER_LEN, MAGIC, VERSION, kind};
use crate::aggregate::Sample;
use crate::warnings::Warning;
use std::fmt;
use std::io::{self, Read};

/// Why a file cannot be read as a recording at all.
#[derive(Debug)]
pub enum ReadError {
    /// There is nothing in it.
    Empty,
    /// It begins with something else.
    NotARecording,
    /// It was written by another version.
    Version {
        /// The version it says.
        found: u32,
    },
    /// The system could not read it.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Empty => {
                write!(f, "the recording is empty: record again with perquery record -p PID -o FILE")
            }
            ReadError::NotARecording => {
                write!(
                    f,
                    "not a perquery recording: name a file written by perquery record -o or perquery run -o"
                )
            }
            ReadError::Version { found } => write!(
                f,
                "the recording has format version {found}, this perquery reads version {VERSION}: use the perquery that wrote it"
            ),
            ReadError::Io(e) => write!(f, "cannot read the recording: {e}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        ReadError::Io(e)
    }
}

/// A part of a recording.
pub enum Item<'a> {
    /// What is recorded; a later one replaces it.
    Meta(Meta),
    /// An execution, a slice or a worker.
    Execution(Sample<'a>),
    /// The losses up to here.
    Losses(Losses),
    /// A query that was under way when the server ended.
    InFlight(InFlight),
    /// A warning.
    Warning(Warning),
    /// The recording is complete.
    End(End),
}

/// Reads a recording in bounded memory.
pub struct Reader<R> {
    frames: FrameReader<R>,
    payload: Vec<u8>,
    /// Where in the payload the next item of the current batch is.
    position: usize,
    /// Executions of the current batch that are still to come.
    left: u64,
    decoder: Decoder,
    current: Option<Recorded>,
    /// Executions recorded up to here, found or lost.
    expected: u64,
    lost_executions: u64,
    unknown_frames: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a recording.
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut header = Vec::new();
        from.by_ref().take(FILE_HEADER_LEN as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Err(ReadError::Empty);
        }
        let version = header.strip_prefix(&MAGIC).ok_or(ReadError::NotARecording)?;
        let version = version.first_chunk::<4>().ok_or(ReadError::NotARecording)?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(ReadError::Version { found });
        }
        Ok(Reader {
            frames: FrameReader::new(from),
            payload: Vec::new(),
            position: 0,
            left: 0,
            decoder: Decoder::default(),
            current: None,
            expected: 0,
            lost_executions: 0,
            unknown_frames: 0,
            ended: false,
        })
    }

    /// The next part that can be read; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "the item borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            if self.left > 0 {
                if self.next_execution() {
                    return Ok(self.current.as_ref().map(|recorded| Item::Execution(recorded.sample())));
                }
                continue;
            }
            let Some(frame_kind) = self.frames.next(&mut self.payload)? else { return Ok(None) };
            if let Some(item) = self.frame(frame_kind) {
                return Ok(Some(item));
            }
        }
    }

    /// What could not be read; complete when [`Reader::next`] has answered `None`.
    pub fn warnings(&self) -> Vec<Warning> {
        let damage = self.frames.damage;
        let mut warnings = Vec::new();
        if damage.places > 0 || self.lost_executions > 0 {
            warnings.push(Warning::DamagedRecording {
                places: damage.places.max(1),
                bytes: damage.bytes,
                executions: self.lost_executions,
            });
        }
        if !self.ended || damage.torn_bytes > 0 {
            warnings.push(Warning::UnfinishedRecording { torn_bytes: damage.torn_bytes });
        }
        if self.unknown_frames > 0 {
            warnings.push(Warning::UnknownFrames { frames: self.unknown_frames });
        }
        warnings
    }

    fn next_execution(&mut self) -> bool {
        let rest = self.payload.get(self.position..).unwrap_or(&[]);
        let mut input = Input::new(rest);
        let recorded = self.decoder.next(&mut input);
        self.position += rest.len() - input.remaining();
        if recorded.is_none() {
            // The check sums are right and the content is not: written by something else.
            self.unknown_frames += 1;
            self.lost_executions = self.lost_executions.saturating_add(self.left);
            self.left = 0;
            return false;
        }
        self.left -= 1;
        self.current = recorded;
        true
    }

    fn frame(&mut self, frame_kind: u8) -> Option<Item<'static>> {
        let item = match frame_kind {
            kind::META => json(&self.payload).map(Item::Meta),
            kind::LOSSES => json(&self.payload).map(Item::Losses),
            kind::IN_FLIGHT => json(&self.payload).map(|query| Item::InFlight(cleaned(query))),
            kind::WARNING => json::<WarningText>(&self.payload).map(|w| {
                let [code, message, remedy] =
                    [&w.code, &w.message, &w.remedy].map(|text| crate::format::clean(text).into_owned());
                Item::Warning(Warning::Other { code, message, remedy })
            }),
            kind::END => json::<End>(&self.payload).map(|end| {
                self.ended = true;
                self.pass(end.executions);
                Item::End(end)
            }),
            kind::BATCH => {
                let mut input = Input::new(&self.payload);
                let header = self.decoder.begin(&mut input);
                self.position = self.payload.len() - input.remaining();
                let Some(BatchHeader { before, executions }) = header else {
                    self.unknown_frames += 1;
                    return None;
                };
                self.pass(before);
                // Each takes a byte at least: a wrong count cannot keep us here.
                self.left = executions.min(self.payload.len() as u64);
                self.expected = self.expected.saturating_add(self.left);
                return None;
            }
            _ => None,
        };
        self.unknown_frames += u64::from(item.is_none());
        item
    }

    /// The recording says that `executions` came before this point.
    fn pass(&mut self, executions: u64) {
        self.lost_executions = self.lost_executions.saturating_add(executions.saturating_sub(self.expected));
        self.expected = self.expected.max(executions);
    }
}

fn json<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// Without control characters: the file may come from anywhere.
fn cleaned(mut query: InFlight) -> InFlight {
    for text in
        [&mut query.user, &mut query.database, &mut query.application, &mut query.client, &mut query.text]
    {
        *text = crate::format::clean(text).into_owned();
    }
    query
}
