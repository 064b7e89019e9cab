//! The price list: how many instructions the library adds to a query on the thread that runs it, counted from outside.

use crate::check::{say, tell};
use crate::outside::{Instructions, Watched};
use crate::program::Program;
use harness::perquery::Recording;
use harness::scratch;
use serde_json::json;

/// A way to run a server.
pub struct Setting {
    /// As the price list calls it.
    pub name: &'static str,
    /// Options of `perquery record`; `None`: capture is off.
    pub record: Option<&'static [&'static str]>,
    /// Which executions are counted is chosen at random: the mean says more than the median.
    pub is_random: bool,
}

/// What is added to what a query costs without the library.
pub const SETTINGS: [Setting; 6] = [
    Setting { name: "loaded, off", record: None, is_random: false },
    Setting { name: "recording, --cheap", record: Some(&["--cheap"]), is_random: false },
    Setting { name: "recording, 2 % budget", record: Some(&[]), is_random: true },
    Setting { name: "--exact", record: Some(&["--exact"]), is_random: false },
    Setting {
        name: "--exact, 2 hardware events by read(2)",
        record: Some(&["--exact", "-e", "cycles,instructions"]),
        is_random: false,
    },
    Setting {
        name: "--exact, 2 hardware events in user space",
        record: Some(&["--exact", "-e", "cycles,instructions", "--user-space-reads"]),
        is_random: false,
    },
];

/// Instructions per query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Price {
    /// In user mode.
    pub user: f64,
    /// In kernel mode.
    pub kernel: f64,
}

/// What a query costs on `thread`, where `work` runs so many of them; the work is done again and again.
pub fn price(thread: u32, queries: usize, is_random: bool, mut work: impl FnMut()) -> Price {
    const WARM_UP: usize = 5;
    const ROUNDS: usize = 21;
    (0..WARM_UP).for_each(|_| work());
    let mut watched = Watched::start(thread);
    let mut rounds: Vec<Instructions> = (0..ROUNDS)
        .map(|_| {
            let before = watched.read();
            work();
            watched.read().since(before)
        })
        .collect();
    let mut middle = |of: fn(&Instructions) -> u64| {
        rounds.sort_by_key(of);
        let sum: u64 = rounds.iter().map(of).sum();
        let median = rounds.get(ROUNDS / 2).map_or(0, of);
        (if is_random { sum as f64 / ROUNDS as f64 } else { median as f64 }) / queries as f64
    };
    Price { user: middle(|i| i.user), kernel: middle(|i| i.kernel) }
}

/// Shows what each setting adds to `alone`, and answers it.
pub fn list(query: &str, alone: Price, with: &[Price]) -> Vec<Price> {
    say(&format!("instructions added to a {query}"));
    say(&format!("  {:44} {:>8} {:>8}", "", "user", "kernel"));
    let row = |name: &str, price: Price| {
        say(&format!("  {name:44} {:8.0} {:8.0}", price.user, price.kernel));
        tell(&json!({"query": query, "setting": name, "user": price.user, "kernel": price.kernel}));
    };
    row("(the query itself)", alone);
    let added = with.iter().map(|p| Price { user: p.user - alone.user, kernel: p.kernel - alone.kernel });
    let added: Vec<Price> = added.collect();
    SETTINGS.iter().zip(&added).for_each(|(setting, price)| row(setting.name, *price));
    added
}

/// Lookups of an order.
const LOOKUPS: usize = 200;

/// At most so many instructions, user and kernel, are added to a SQLite lookup; for the budget the chance decides.
/// Measured, and a little room. Lower them with what was won.
const CEILINGS: [Option<(f64, f64)>; SETTINGS.len()] = [
    Some((30.0, 20.0)),
    Some((640.0, 150.0)),
    None,
    Some((2_230.0, 4_500.0)),
    Some((3_370.0, 20_000.0)),
    Some((3_230.0, 4_600.0)),
];

/// The price list of a SQLite point lookup: prepared once, two steps and a reset each.
pub fn sqlite_lookup() -> String {
    let lookups = |program: &mut Program, is_random| {
        let order = format!("lookup {LOOKUPS}");
        price(program.pid(), LOOKUPS, is_random, || drop(program.order(&order)))
    };
    let alone = lookups(&mut Program::alone("orders"), false);
    let with = SETTINGS.map(|setting| {
        let directory = scratch::directory("prices");
        let mut program = Program::loaded("orders");
        let recording = setting.record.map(|options| {
            Recording::start_with(program.pid(), directory.path().join("recording.pq"), options)
        });
        let price = lookups(&mut program, setting.is_random);
        if let Some(recording) = recording {
            recording.stop("digest").expect_complete();
        }
        price
    });
    let added = list("SQLite point lookup", alone, &with);
    for ((setting, price), ceiling) in SETTINGS.iter().zip(&added).zip(CEILINGS) {
        let Some((user, kernel)) = ceiling else { continue };
        assert!(
            price.user <= user && price.kernel <= kernel,
            "{}: {:.0} + {:.0} instructions, at most {user} + {kernel}",
            setting.name,
            price.user,
            price.kernel
        );
    }
    "within the ceilings".to_owned()
}
