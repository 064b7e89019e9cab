//! MySQL's query attributes, which stand between the first byte of a COM_QUERY and the statement's text.
//!
//! `param_count lenenc | set_count lenenc | if count > 0: null bitmap, 01, (type LE16, name lenenc string)*, values`

use super::packet::{Length, LengthReader, take_up_to};

/// With more attributes than this the text's beginning is not looked for.
const MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    Count = 0,
    SetCount,
    NullBitmap,
    BindFlag,
    TypeLow,
    TypeHigh,
    NameLength,
    Name,
    /// Decides by the type of the next parameter.
    NextValue,
    ShortValueLength,
    ValueLength,
    Value,
    Done,
    Failed,
}

/// Where the attributes end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    More,
    /// The text follows.
    Done,
    /// Attributes of an unknown shape: where the text begins is not known.
    Failed,
}

/// Reads the attributes of one command.
pub(super) struct Attributes {
    field: Field,
    count: u8,
    /// The parameter whose type, name or value is being read.
    index: u8,
    bitmap_at: u8,
    length: LengthReader,
    left: u32,
    nulls: u64,
    types: [u8; MAX],
}

impl Attributes {
    pub(super) const fn new() -> Self {
        Attributes {
            field: Field::Count,
            count: 0,
            index: 0,
            bitmap_at: 0,
            length: LengthReader::new(),
            left: 0,
            nulls: 0,
            types: [0; MAX],
        }
    }

    pub(super) fn begin(&mut self) {
        self.field = Field::Count;
        self.count = 0;
        self.index = 0;
        self.bitmap_at = 0;
        self.length = LengthReader::new();
        self.nulls = 0;
    }

    /// Takes the bytes that belong to the attributes.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Progress {
        loop {
            match self.field {
                Field::Done => return Progress::Done,
                Field::Failed => return Progress::Failed,
                Field::NextValue => {
                    self.next_value();
                    continue;
                }
                Field::Name | Field::Value => {
                    self.left -= take_up_to(input, self.left).len() as u32;
                    if self.left > 0 {
                        return Progress::More;
                    }
                    self.after_skipped();
                    continue;
                }
                _ => {}
            }
            let Some((byte, rest)) = input.split_first() else { return Progress::More };
            *input = rest;
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        match self.field {
            Field::Count => {
                if let Some(count) = self.number(byte) {
                    self.count = count.min(255) as u8;
                    self.field = if count > MAX as u64 { Field::Failed } else { Field::SetCount };
                }
            }
            Field::SetCount => {
                if let Some(sets) = self.number(byte) {
                    self.field = match (sets, self.count) {
                        (1, 0) => Field::Done,
                        (1, _) => Field::NullBitmap,
                        _ => Field::Failed,
                    };
                }
            }
            Field::NullBitmap => {
                self.nulls |= u64::from(byte) << (self.bitmap_at * 8);
                self.bitmap_at += 1;
                if self.bitmap_at == self.count.div_ceil(8) {
                    self.field = Field::BindFlag;
                }
            }
            Field::BindFlag => self.field = if byte == 1 { Field::TypeLow } else { Field::Failed },
            Field::TypeLow => {
                if let Some(slot) = self.types.get_mut(usize::from(self.index)) {
                    *slot = byte;
                }
                self.field = Field::TypeHigh;
            }
            Field::TypeHigh => self.field = Field::NameLength,
            Field::NameLength => self.begin_skipped(byte, Field::Name),
            Field::ValueLength => self.begin_skipped(byte, Field::Value),
            Field::ShortValueLength => {
                self.left = u32::from(byte);
                self.field = Field::Value;
            }
            _ => {}
        }
    }

    fn number(&mut self, byte: u8) -> Option<u64> {
        match self.length.push(byte) {
            Length::More => None,
            Length::Is(value) => Some(value),
            Length::Invalid => {
                self.field = Field::Failed;
                None
            }
        }
    }

    fn begin_skipped(&mut self, byte: u8, field: Field) {
        if let Some(length) = self.number(byte) {
            match u32::try_from(length) {
                Ok(length) => {
                    self.left = length;
                    self.field = field;
                }
                Err(_) => self.field = Field::Failed,
            }
        }
    }

    fn after_skipped(&mut self) {
        self.index += 1;
        let all = self.index == self.count;
        self.field = match (self.field, all) {
            (Field::Name, false) => Field::TypeLow,
            (Field::Name, true) => {
                self.index = 0;
                Field::NextValue
            }
            (_, false) => Field::NextValue,
            (_, true) => Field::Done,
        };
    }

    /// How the value of parameter `index` is laid out, by its type's number.
    fn next_value(&mut self) {
        let null = self.nulls >> (self.index & 63) & 1 == 1;
        let kind = self.types.get(usize::from(self.index)).copied().unwrap_or(0);
        self.field = Field::Value;
        self.left = match kind {
            _ if null => 0,
            6 => 0,
            1 => 1,
            2 | 13 => 2,
            3 | 4 | 9 => 4,
            5 | 8 => 8,
            7 | 10..=12 => {
                self.field = Field::ShortValueLength;
                0
            }
            0 | 15 | 16 | 242 | 245..=255 => {
                self.field = Field::ValueLength;
                0
            }
            _ => {
                self.field = Field::Failed;
                0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(mut bytes: &[u8]) -> (Progress, &[u8]) {
        let mut attributes = Attributes::new();
        attributes.begin();
        let progress = attributes.take(&mut bytes);
        (progress, bytes)
    }

    #[test]
    fn the_text_begins_after_the_values() {
        assert_eq!(rest(b"\x00\x01select 1"), (Progress::Done, &b"select 1"[..]));
        // A string, a NULL, a LONGLONG and a DATETIME.
        let four = b"\x04\x01\x02\x01\xfd\x00\x02ab\x0f\x00\x00\x08\x00\x01n\x0c\x00\x01t\
            \x03xyz\x01\0\0\0\0\0\0\0\x04\xe8\x07\x01\x02select 2";
        assert_eq!(rest(four), (Progress::Done, &b"select 2"[..]));
        for at in 0..four.len() - 8 {
            assert_eq!(rest(&four[..at]).0, Progress::More);
        }
    }

    #[test]
    fn attributes_of_an_unknown_shape_are_not_guessed() {
        assert_eq!(rest(b"\x01\x02\x00\x01").0, Progress::Failed);
        assert_eq!(rest(b"\x01\x01\x00\x00").0, Progress::Failed);
        assert_eq!(rest(b"\x41\x01").0, Progress::Failed);
        assert_eq!(rest(b"\x01\x01\x00\x01\x63\x00\x00\x01").0, Progress::Failed);
    }
}
