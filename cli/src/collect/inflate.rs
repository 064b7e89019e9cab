//! Texts that the client sent compressed: inflated here, never in the server.

use flate2::{Decompress, FlushDecompress};
use perquery_agent::protocol::{Command, TEXT_CAP};
use perquery_agent::segment::record::{Execution, FLAG_TEXT_UNKNOWN, FLAG_TEXT_ZLIB, FLAG_TEXT_ZSTD};

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const HEADER: usize = 4;

/// Replaces a compressed command by its text and kind. What can't be inflated (zstd, damaged, cut too early) becomes a
/// unit of unknown text.
pub fn inflate(execution: &mut Execution) {
    let compressed = std::mem::take(&mut execution.text);
    let command = if execution.flags & FLAG_TEXT_ZLIB != 0 { zlib(&compressed) } else { None };
    execution.flags &= !(FLAG_TEXT_ZLIB | FLAG_TEXT_ZSTD);
    match command.as_deref().and_then(parse) {
        Some((COM_QUERY, text, full_len)) => set(execution, Command::Query, text, full_len),
        Some((COM_STMT_PREPARE, text, full_len)) => set(execution, Command::Prepare, text, full_len),
        Some((COM_STMT_EXECUTE, _, _)) => {
            execution.command = Command::Execute;
            execution.flags |= FLAG_TEXT_UNKNOWN;
        }
        Some(_) => execution.command = Command::Utility,
        None => execution.flags |= FLAG_TEXT_UNKNOWN,
    }
}

fn set(execution: &mut Execution, command: Command, text: &[u8], full_len: u32) {
    execution.command = command;
    execution.text = text.to_vec();
    execution.text_len = full_len;
}

/// The command byte, the text as far as it is there, and the text's whole length.
fn parse(packet: &[u8]) -> Option<(u8, &[u8], u32)> {
    let (header, body) = packet.split_first_chunk::<HEADER>()?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let (command, text) = body.split_first()?;
    let full_len = len.checked_sub(1)?;
    Some((*command, text.get(..full_len as usize).unwrap_or(text), full_len))
}

/// As much of a zlib stream as fits a text, from as much of it as there is.
fn zlib(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; TEXT_CAP + HEADER + 1];
    let mut inflater = Decompress::new(true);
    // An error at the end of a cut stream leaves what came before.
    let _ = inflater.decompress(compressed, &mut out, FlushDecompress::Sync);
    out.truncate(usize::try_from(inflater.total_out()).ok()?);
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write;

    fn compressed(command: &[u8]) -> Vec<u8> {
        let mut packet = (command.len() as u32).to_le_bytes();
        packet[3] = 0;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&packet).unwrap();
        encoder.write_all(command).unwrap();
        encoder.finish().unwrap()
    }

    fn execution(text: Vec<u8>, flag: u32) -> Execution {
        Execution { text, flags: flag, command: Command::Query, ..Execution::default() }
    }

    #[test]
    fn a_compressed_query_has_its_text_even_when_the_stream_was_cut() {
        let text = format!("\x03select {}", "a long text, ".repeat(30));
        let whole = compressed(text.as_bytes());
        let mut e = execution(whole.clone(), FLAG_TEXT_ZLIB);
        inflate(&mut e);
        assert_eq!((e.text.as_slice(), e.text_len as usize), (&text.as_bytes()[1..], text.len() - 1));
        assert_eq!((e.command, e.flags), (Command::Query, 0));
        let mut cut = execution(whole[..whole.len() / 2].to_vec(), FLAG_TEXT_ZLIB);
        inflate(&mut cut);
        assert!(cut.text.is_empty() || text.as_bytes()[1..].starts_with(&cut.text));
    }

    #[test]
    fn what_is_no_query_is_called_what_it_is() {
        let mut prepare = execution(compressed(b"\x16select ? from t"), FLAG_TEXT_ZLIB);
        inflate(&mut prepare);
        assert_eq!((prepare.command, prepare.text.as_slice()), (Command::Prepare, &b"select ? from t"[..]));
        let mut execute = execution(compressed(b"\x17\x01\0\0\0\0\x01\0\0\0"), FLAG_TEXT_ZLIB);
        inflate(&mut execute);
        assert_eq!((execute.command, execute.flags), (Command::Execute, FLAG_TEXT_UNKNOWN));
        for (bytes, flag) in
            [(b"garbage".to_vec(), FLAG_TEXT_ZLIB), (vec![], FLAG_TEXT_ZLIB), (vec![1], FLAG_TEXT_ZSTD)]
        {
            let mut e = execution(bytes, flag);
            inflate(&mut e);
            assert_eq!((e.text.as_slice(), e.flags), (&b""[..], FLAG_TEXT_UNKNOWN));
        }
    }
}
