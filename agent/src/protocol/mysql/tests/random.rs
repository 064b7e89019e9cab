//! Bytes without sense: never a panic, never a circle, and always the same events whatever the pieces.

use super::*;

/// xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One operation that brings a whole answer, or what is nearly one.
fn whole_answer(random: &mut Random) -> Vec<u8> {
    const EOFS: [&[u8]; 6] = [
        b"\xfe\x00\x00\x02\x00",
        b"\xfe\x00\x00\x0a\x00",
        b"\xfe\x00\x00\x42\x00",
        b"\xfe\x00\x00\x02\x00\x00\x00",
        b"\xfe\x00\x00\x0a\x00\x00\x00",
        b"\xff\x1e\x04#42S22no",
    ];
    let mut packets: Vec<&[u8]> = Vec::new();
    match random.below(4) {
        0 => packets.push(b"\x00\x07\x00\x02\x00\x00\x00"),
        1 => packets.push(b"\x00\xfc\x00\x01\x00\x02\x00\x00\x00"),
        _ => {
            packets.push(if random.one_in(2) { b"\x01" } else { b"\x01\x01" });
            packets.push(b"\x03def\x00");
            if random.one_in(2) {
                packets.push(EOFS[if random.one_in(2) { 0 } else { random.below(6) }]);
            }
            packets.extend(std::iter::repeat_n(&b"\x011"[..], random.below(4)));
            packets.push(EOFS[random.below(6)]);
        }
    }
    if random.one_in(8) {
        packets.push(b"\x00\x00\x00\x02\x00\x00\x00");
    }
    let mut bytes = Vec::new();
    for (seq, packet) in packets.iter().enumerate() {
        let seq = if random.one_in(40) { 9 } else { 1 + seq as u8 };
        bytes.extend([packet.len() as u8, 0, 0, seq]);
        bytes.extend(*packet);
    }
    if random.one_in(10) {
        bytes.pop();
    }
    bytes.truncate(63);
    bytes.insert(0, 1 | (bytes.len() as u8) << 2);
    bytes
}

/// Packets that make sense one by one, so that the machine gets further than its first check.
fn plausible(random: &mut Random, compressed: bool) -> Vec<u8> {
    const COMMANDS: [u8; 18] =
        [1, 2, 3, 3, 3, 4, 9, 0x0e, 0x11, 0x16, 0x16, 0x17, 0x17, 0x18, 0x19, 0x1c, 0x1f, 0xfa];
    const ANSWERS: [&[u8]; 12] = [
        b"\x00\x01\x00\x02\x00\x00\x00",
        b"\x00\x00\x00\x0a\x00\x00\x00",
        b"\x00\x01\x00\x00\x00\x02\x00\x01\x00\x00\x00\x00",
        b"\xff\x1e\x04#42S22no",
        b"\xff\xff\xff\x01\x01",
        b"\xfbfile",
        b"\xfe\x00\x00\x02\x00",
        b"\xfe\x00\x00\x02\x00\x00\x00",
        b"\x01",
        b"\x02\x01",
        b"\x03def\x00",
        b"\x00\x00\x00\x02\x40\x00\x00\x00\x04\x01\x02\x01t",
    ];
    let mut data = Vec::new();
    let operation = |data: &mut Vec<u8>, kind: u8, payload: &[u8], seq: u8, random: &mut Random| {
        let mut bytes = Vec::new();
        bytes.extend(&(payload.len() as u32).to_le_bytes()[..3]);
        bytes.push(seq);
        bytes.extend(payload);
        if compressed {
            let packed = if random.one_in(4) { 1 + random.below(40) as u8 } else { 0 };
            let envelope = [bytes.len() as u8, 0, 0, if kind == 0 { 0 } else { seq }, packed, 0, 0];
            bytes.splice(0..0, envelope);
        }
        data.push(kind | (bytes.len() as u8) << 2);
        data.extend(bytes);
    };
    for _ in 0..random.below(12) {
        let mut command = std::vec![COMMANDS[random.below(COMMANDS.len())]];
        for _ in 0..random.below(24) {
            let bytes = if random.one_in(2) { b"use t;\0\x01" } else { b"\x01\0\0\0\xff\xff\xff\xff" };
            command.push(bytes[random.below(8)]);
        }
        operation(&mut data, 0, &command, 0, random);
        if !compressed && random.one_in(2) {
            data.extend(whole_answer(random));
            if !random.one_in(5) {
                data.push(2 | 4 << 2);
            }
            continue;
        }
        for seq in 0..random.below(6) as u8 {
            let answer = ANSWERS[random.below(ANSWERS.len())];
            operation(&mut data, 1, answer, 1 + seq, random);
        }
        if random.one_in(3) {
            operation(&mut data, 0, b"data", 2, random);
            operation(&mut data, 1, ANSWERS[0], 3, random);
        }
        if !random.one_in(5) {
            data.push(2 | 4 << 2);
        }
        if random.one_in(9) {
            data.push(3 | (random.below(64) as u8) << 2);
        }
    }
    data
}

#[test]
fn random_bytes_never_panic_and_tell_one_story() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..20_000 {
        let mut data: Vec<u8> = Vec::new();
        data.push(random.next() as u8);
        data.extend((random.next() & random.next()).to_le_bytes());
        if round % 4 == 0 {
            for _ in 0..random.below(200) {
                data.push(random.next() as u8);
            }
        } else {
            data[0] |= 1;
            let compressed = data[0] & 2 != 0;
            data.extend(plausible(&mut random, compressed));
        }
        if random.one_in(4) {
            let at = random.below(data.len());
            data[at] = random.next() as u8;
        }
        fuzz_mysql(&data);
    }
}
