//! Raw blocking clients of both protocols: one write and few reads per query, nothing else in the way of the clock.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A buffered connection.
struct Stream {
    socket: UnixStream,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
}

impl Stream {
    fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Stream { socket, buffer: vec![0; 1 << 16], at: 0, filled: 0 }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server lives");
        (self.at, self.filled) = (0, 0);
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> &[u8] {
        while self.filled - self.at < count {
            if self.buffer.len() - self.at < count {
                self.buffer.resize(self.at + count, 0);
            }
            if self.filled == self.buffer.len() {
                self.buffer.copy_within(self.at..self.filled, 0);
                (self.at, self.filled) = (0, self.filled - self.at);
            }
            let read = self.socket.read(&mut self.buffer[self.filled..]).expect("the server lives");
            assert!(read > 0, "the server closed the connection");
            self.filled += read;
        }
        self.at += count;
        &self.buffer[self.at - count..self.at]
    }
}

/// A client of either protocol.
pub trait Wire: Send {
    /// Sends an encoded command and reads the whole response.
    fn exchange(&mut self, command: &[u8]);
    /// Encodes a statement as text.
    fn text(&self, statement: &str) -> Vec<u8>;
    /// Prepares a statement with one integer parameter and encodes its execution.
    fn prepared(&mut self, statement: &str, parameter: u32) -> Vec<u8>;

    /// Runs a statement once.
    fn run(&mut self, statement: &str) {
        let command = self.text(statement);
        self.exchange(&command);
    }
}

/// MariaDB's and MySQL's protocol.
pub struct MySql(Stream);

impl MySql {
    /// Logs in as root without a password.
    pub fn connect(socket: &Path, database: &str) -> Self {
        let mut client = MySql(Stream::connect(socket));
        client.packet();
        // LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
        let mut login = 0x0008_A209_u32.to_le_bytes().to_vec();
        login.extend((1_u32 << 24).to_le_bytes());
        login.push(0x2D);
        login.extend([0; 23]);
        login.extend(b"root\0\0");
        login.extend(database.as_bytes());
        login.extend(b"\0mysql_native_password\0");
        client.0.send(&Self::frame(1, &login));
        let answer = client.packet();
        assert_eq!(answer.first(), Some(&0), "login: {}", String::from_utf8_lossy(&answer));
        client
    }

    fn frame(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        frame.push(sequence);
        frame.extend(payload);
        frame
    }

    fn packet(&mut self) -> Vec<u8> {
        let (_, length) = self.header();
        self.0.take(length).to_vec()
    }

    fn header(&mut self) -> (u8, usize) {
        let header = self.0.take(4);
        (header[3], u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize)
    }

    /// First byte and length of the next packet.
    fn skip(&mut self) -> (u8, usize) {
        let (_, length) = self.header();
        let payload = self.0.take(length);
        if payload[0] == 0xFF {
            panic!("the server says {}", String::from_utf8_lossy(payload));
        }
        (payload[0], length)
    }

    fn skip_to_eof(&mut self) {
        while !matches!(self.skip(), (0xFE, 1..9)) {}
    }
}

impl Wire for MySql {
    fn exchange(&mut self, command: &[u8]) {
        self.0.send(command);
        if self.skip().0 != 0 {
            // Columns, then rows.
            self.skip_to_eof();
            self.skip_to_eof();
        }
    }

    fn text(&self, statement: &str) -> Vec<u8> {
        Self::frame(0, &[&[3], statement.as_bytes()].concat())
    }

    fn prepared(&mut self, statement: &str, parameter: u32) -> Vec<u8> {
        self.0.send(&Self::frame(0, &[&[0x16], statement.as_bytes()].concat()));
        let answer = self.packet();
        assert_eq!(answer[0], 0, "prepare: {}", String::from_utf8_lossy(&answer));
        self.skip_to_eof();
        self.skip_to_eof();
        // COM_STMT_EXECUTE: statement, no cursor, once, no NULLs, types follow: one LONG.
        let mut execute = vec![0x17];
        execute.extend(&answer[1..5]);
        execute.extend([0, 1, 0, 0, 0, 0, 1, 3, 0]);
        execute.extend(parameter.to_le_bytes());
        Self::frame(0, &execute)
    }
}

/// PostgreSQL's protocol, version 3.
pub struct Postgres(Stream);

impl Postgres {
    /// Logs in without a password.
    pub fn connect(socket: &Path, user: &str, database: &str) -> Self {
        let mut client = Postgres(Stream::connect(socket));
        let parameters = format!("user\0{user}\0database\0{database}\0application_name\0cost\0\0");
        let mut startup = (8 + parameters.len() as u32).to_be_bytes().to_vec();
        startup.extend(196_608_u32.to_be_bytes());
        startup.extend(parameters.as_bytes());
        client.exchange(&startup);
        client
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend((body.len() as u32 + 4).to_be_bytes());
        message.extend(body);
        message
    }
}

impl Wire for Postgres {
    fn exchange(&mut self, command: &[u8]) {
        self.0.send(command);
        loop {
            let header = self.0.take(5);
            let kind = header[0];
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let body = self.0.take(length - 4);
            match kind {
                b'E' => panic!("the server says {}", String::from_utf8_lossy(body).replace('\0', " ")),
                b'Z' => return,
                _ => {}
            }
        }
    }

    fn text(&self, statement: &str) -> Vec<u8> {
        Self::message(b'Q', &[statement.as_bytes(), b"\0"].concat())
    }

    fn prepared(&mut self, statement: &str, parameter: u32) -> Vec<u8> {
        let parse = Self::message(b'P', format!("s\0{statement}\0\0\0").as_bytes());
        self.exchange(&[parse, Self::message(b'S', b"")].concat());
        let parameter = parameter.to_string();
        // The unnamed portal of s, one parameter as text, results as text; described and run once, as libpq does.
        let mut bind = b"\0s\0\0\0\0\x01".to_vec();
        bind.extend((parameter.len() as u32).to_be_bytes());
        bind.extend(parameter.as_bytes());
        bind.extend([0, 0]);
        let parts: [(u8, &[u8]); 4] = [(b'B', &bind), (b'D', b"P\0"), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
        parts.map(|(kind, body)| Self::message(kind, body)).concat()
    }
}
