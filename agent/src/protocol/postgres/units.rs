//! The units of work that the server has received and not yet answered, and what the one in front turned out to be.
//!
//! A client may send many units before it reads the first answer; each is ended by a ReadyForQuery of its own. So they
//! queue up here. The one in front runs, or ran last: it stays until the next one starts.

use super::texts::{Place, Source, Texts};
use crate::protocol::{Command, Member, Outcome, TextRef, Unit, UnitText};
use crate::segment::record::MEMBERS_MAX;

/// Units followed at a time. When more are received ahead, they are added to the last one.
pub(super) const UNITS_CAP: usize = 64;

/// One unit: what the client asked for between two Syncs, or in one simple Query.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The text of the first statement, of the first Parse as long as there is no Execute: a [`Source`] taken apart, so
    /// that all of this fits into 24 bytes.
    hash: u64,
    full_len: u32,
    /// Executes, simple Queries and FunctionCalls.
    statements: u32,
    /// How many ReadyForQuery end it: more than one only if units were added to it.
    ends: u16,
    members_start: u8,
    members_len: u8,
    place: Place,
    flags: u8,
}

impl Asked {
    /// The client has sent all of it.
    pub(super) const CLOSED: u8 = 1;
    /// Its statement is a simple Query.
    pub(super) const SIMPLE: u8 = 2;
    /// Its statement is a FunctionCall.
    pub(super) const FUNCTION: u8 = 4;
    /// It has a Parse.
    pub(super) const PARSED: u8 = 8;
    /// It reads on from a portal executed before.
    pub(super) const FETCHED: u8 = 16;
    /// It is nothing but a Sync.
    pub(super) const LONE_SYNC: u8 = 32;
    /// It has more than one statement.
    const BATCH: u8 = 64;

    /// All zeros: so is a new machine, whose memory then needs no touching.
    const EMPTY: Asked = Asked {
        hash: 0,
        full_len: 0,
        statements: 0,
        ends: 0,
        members_start: 0,
        members_len: 0,
        place: Place::None,
        flags: 0,
    };

    /// True for a unit that was only just begun.
    pub(super) fn is_new(&self) -> bool {
        self.flags == 0 && self.ends == 1
    }

    fn source(&self) -> Source {
        Source::new(self.place, TextRef { hash: self.hash, full_len: self.full_len })
    }

    fn set_source(&mut self, source: Source) {
        self.place = source.place();
        TextRef { hash: self.hash, full_len: self.full_len } = source.text();
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

/// The queue, and the answers to its front. What every query touches is at the end, so that it lies beside the like of the
/// machine's other parts.
#[repr(C)]
pub(super) struct Units {
    /// The members of all batches in the queue, one behind the other.
    members: [Member; MEMBERS_MAX],
    ring: [Asked; UNITS_CAP],
    head: u8,
    len: u8,
    members_used: u8,
    /// The front runs.
    pub running: bool,
    /// The front is over; it is kept for whoever wants to know about it.
    over: bool,
    /// The front's answer has begun.
    pub responded: bool,
    /// EmptyQueryResponse was seen.
    pub empty: bool,
    /// CommandComplete messages.
    pub completed: u32,
    pub outcome: Outcome,
}

impl Units {
    pub(super) const fn new() -> Self {
        Units {
            ring: [Asked::EMPTY; UNITS_CAP],
            head: 0,
            len: 0,
            members_used: 0,
            running: false,
            over: false,
            responded: false,
            empty: false,
            completed: 0,
            outcome: Outcome {
                failed: false,
                error_code: 0,
                sqlstate: [0; 5],
                rows_returned: 0,
                rows_affected: 0,
                unknown: false,
            },
            members: [Member { text: TextRef { hash: 0, full_len: 0 }, executions: 0 }; MEMBERS_MAX],
        }
    }

    pub(super) fn reset(&mut self) {
        self.head = 0;
        self.len = 0;
        self.members_used = 0;
        self.running = false;
        self.over = false;
        self.forget_answers();
    }

    fn forget_answers(&mut self) {
        self.responded = false;
        self.empty = false;
        self.completed = 0;
        self.outcome = Outcome::default();
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    fn place_of(&self, n: usize) -> usize {
        (self.head as usize + n) % UNITS_CAP
    }

    pub(super) fn at(&self, n: usize) -> Option<&Asked> {
        if n < self.len() { self.ring.get(self.place_of(n)) } else { None }
    }

    pub(super) fn at_mut(&mut self, n: usize) -> Option<&mut Asked> {
        let place = self.place_of(n);
        if n < self.len() { self.ring.get_mut(place) } else { None }
    }

    /// The unit received last, whether the client has sent all of it or not.
    pub(super) fn back_mut(&mut self) -> Option<&mut Asked> {
        self.at_mut(self.len().checked_sub(1)?)
    }

    /// Units that are not over.
    pub(super) fn outstanding(&self) -> usize {
        self.len() - usize::from(self.over && self.len > 0)
    }

    fn drop_front(&mut self) {
        self.len = self.len.saturating_sub(1);
        // A queue that is empty begins anew: always in the same cache line, as long as nobody asks ahead.
        self.head = if self.len == 0 { 0 } else { self.place_of(1) as u8 };
        self.over = false;
    }

    /// The next unit in the queue runs.
    pub(super) fn start(&mut self) {
        if self.over {
            self.drop_front();
        }
        self.running = self.len > 0;
        self.forget_answers();
    }

    /// The front is over.
    pub(super) fn finish(&mut self) {
        self.running = false;
        self.over = true;
    }

    /// The server will answer nothing more of what it has received completely: a unit that the client is still sending
    /// moves up, the other ones behind the front are gone.
    pub(super) fn drop_closed(&mut self) {
        let last = self.len().checked_sub(1).filter(|&last| last > 0).and_then(|last| self.at(last).copied());
        self.len = self.len.min(1);
        if let Some(open) = last.filter(|unit| !unit.has(Asked::CLOSED)) {
            self.len = 2;
            if let Some(second) = self.at_mut(1) {
                *second = open;
            }
        }
    }

    /// The front is the only one left.
    pub(super) fn drop_rest(&mut self) {
        self.len = self.len.min(1);
    }

    /// Removes the second one; nothing but a Sync, it has no members.
    pub(super) fn drop_second(&mut self) {
        for n in 1..self.len() {
            if let Some(next) = self.at(n + 1).copied()
                && let Some(unit) = self.at_mut(n)
            {
                *unit = next;
            }
        }
        self.len = self.len.saturating_sub(1).max(1);
    }

    /// The next unit will be added to the last one, because there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.len() == UNITS_CAP
    }

    /// The client begins a new unit.
    pub(super) fn push(&mut self) {
        if self.over && self.len == 1 {
            self.drop_front();
        }
        if self.is_full() {
            if let Some(last) = self.back_mut() {
                last.ends = last.ends.saturating_add(1);
                last.set(Asked::CLOSED, false);
            }
            return;
        }
        let place = self.place_of(self.len());
        if let Some(unit) = self.ring.get_mut(place) {
            *unit = Asked { ends: 1, ..Asked::EMPTY };
            self.len += 1;
        }
    }

    /// One ReadyForQuery for the front. True if that ended it.
    pub(super) fn ready(&mut self) -> bool {
        match self.at_mut(0) {
            Some(front) if front.ends > 1 => {
                front.ends -= 1;
                false
            }
            _ => true,
        }
    }

    /// True if a unit's text is in the buffer `place`.
    pub(super) fn refers_to(&self, place: Place) -> bool {
        (0..self.len()).any(|n| self.at(n).is_some_and(|unit| unit.place == place))
    }

    /// The text in `place` was announced.
    pub(super) fn moved(&mut self, place: Place, text: TextRef) {
        for n in 0..self.len() {
            if let Some(unit) = self.at_mut(n)
                && unit.place == place
            {
                unit.set_source(Source::stored(text));
            }
        }
    }

    /// The text of the last unit's first statement, if it has a statement.
    pub(super) fn first_source(&mut self) -> Option<Source> {
        self.back_mut().filter(|unit| unit.statements > 0).map(|unit| unit.source())
    }

    /// The last unit parses a statement.
    pub(super) fn add_parse(&mut self, source: Source) {
        if let Some(unit) = self.back_mut() {
            if unit.statements == 0 && !unit.has(Asked::PARSED) {
                unit.set_source(source);
            }
            unit.set(Asked::PARSED, true);
        }
    }

    /// The last unit reads on from a portal.
    pub(super) fn add_fetch(&mut self, source: Source) {
        if let Some(unit) = self.back_mut() {
            if unit.statements == 0 && !unit.has(Asked::FETCHED) {
                unit.set_source(source);
            }
            unit.set(Asked::FETCHED, true);
        }
    }

    /// The last unit has one more statement. If it is not the first, no text may be in a buffer.
    pub(super) fn add_statement(&mut self, source: Source, kind: u8) {
        let Some(unit) = self.back_mut() else { return };
        unit.statements = unit.statements.saturating_add(1);
        if unit.statements == 1 {
            unit.set_source(source);
            unit.set(kind, true);
            return;
        }
        let first = unit.source();
        if !unit.has(Asked::BATCH) {
            unit.set(Asked::BATCH, true);
            self.add_member(first);
        }
        self.add_member(source);
    }

    /// Beyond [`MEMBERS_MAX`] in the whole queue a member is counted in `statements` only.
    fn add_member(&mut self, source: Source) {
        let Some(unit) = self.back_mut() else { return };
        let (start, len) = (unit.members_start as usize, unit.members_len as usize);
        let text = source.text();
        if let Some(mine) = self.members.get_mut(start..start + len)
            && let Some(same) = mine.iter_mut().rev().find(|member| member.text == text)
        {
            same.executions = same.executions.saturating_add(1);
            return;
        }
        if self.members_used as usize == MEMBERS_MAX || len == 0 {
            self.close_gap();
        }
        let used = self.members_used;
        let Some(free) = self.members.get_mut(used as usize) else { return };
        *free = Member { text, executions: 1 };
        self.members_used = used + 1;
        if let Some(unit) = self.back_mut() {
            if unit.members_len == 0 {
                unit.members_start = used;
            }
            unit.members_len += 1;
        }
    }

    /// Moves the members of units in the queue to where those of units no longer in it were.
    fn close_gap(&mut self) {
        let with_members = |unit: &&Asked| unit.members_len > 0;
        let Some(gap) =
            (0..self.len()).filter_map(|n| self.at(n)).find(with_members).map(|unit| unit.members_start)
        else {
            self.members_used = 0;
            return;
        };
        if gap == 0 {
            return;
        }
        let (from, to) = (gap as usize, self.members_used as usize);
        if from <= to && to <= MEMBERS_MAX {
            self.members.copy_within(from..to, 0);
        }
        self.members_used = self.members_used.saturating_sub(gap);
        for n in 0..self.len() {
            if let Some(unit) = self.at_mut(n)
                && unit.members_len > 0
            {
                unit.members_start = unit.members_start.saturating_sub(gap);
            }
        }
    }

    /// Describes the front.
    pub(super) fn describe<'a>(&'a self, texts: &'a Texts) -> Unit<'a> {
        let nothing = Unit {
            command: Command::None,
            text: UnitText::None,
            statements: 0,
            members: &[],
            outcome: Outcome::default(),
        };
        let Some(front) = self.at(0).filter(|_| self.running || self.over) else { return nothing };
        let command = match front.statements {
            1 if front.has(Asked::SIMPLE) => Command::Query,
            1 if front.has(Asked::FUNCTION) => Command::FunctionCall,
            1 => Command::Execute,
            0 if front.has(Asked::FETCHED) => Command::Fetch,
            0 if front.has(Asked::PARSED) => Command::Prepare,
            0 => Command::Utility,
            _ => Command::Batch,
        };
        let text = match (command, front.place) {
            (Command::Batch, _) | (_, Place::None) => UnitText::None,
            (_, Place::Unknown) => UnitText::Unknown,
            (_, Place::Stored) => UnitText::Stored(front.source().text()),
            (_, place @ (Place::First | Place::Second)) => {
                let buffer = texts.buffer(place);
                UnitText::Inline { bytes: buffer.as_slice(), full_len: buffer.full_len() }
            }
        };
        let statements = match command {
            Command::Query => self.answered_statements(),
            // One is prepared, or read on from.
            Command::Prepare | Command::Fetch => 1,
            _ => front.statements,
        };
        let members = match front.members_len as usize {
            0 => &[],
            len => {
                let start = front.members_start as usize;
                self.members.get(start..start + len).unwrap_or(&[])
            }
        };
        Unit { command, text, statements, members, outcome: self.outcome }
    }

    /// A simple Query may hold several statements, or none: their completions tell, and the one that failed. Where
    /// nothing tells it was one.
    fn answered_statements(&self) -> u32 {
        let answered = self.completed.saturating_add(u32::from(self.outcome.failed));
        if answered == 0 && !self.empty { 1 } else { answered }
    }
}
