//! A machine in zeroed memory, where the session table has it.
//!
//! # Safety
//!
//! The memory of one [`Mysql`] is allocated zeroed and taken for initialised: every field's type has zero as a valid value.
#![allow(unsafe_code)]

use super::*;
use std::boxed::Box;

#[test]
fn zeroed_memory_is_a_machine_before_its_first_byte() {
    // SAFETY: integers, booleans, arrays of them, and `repr(u8)` enums with a variant 0: zero is a value of each.
    let zeroed: Box<Mysql> = unsafe { Box::<Mysql>::new_zeroed().assume_init() };
    let ops = recorded::operations(include_str!("recordings/prepared.txt"), 4);
    let mut player = Player { machine: zeroed, story: Vec::new(), piece: usize::MAX };
    player.machine.set_capturing(true);
    player.play(&ops);
    assert_eq!(player.story, include_str!("recordings/prepared.story").lines().collect::<Vec<_>>());
}
