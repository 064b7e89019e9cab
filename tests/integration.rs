//! Evidence about the whole product, with real servers and real processes. One purpose per module.

/// What a user may do wrong gets one clear line and exit status 2.
mod bad_input;
/// Servers, clients and victims work here without the library.
mod baseline;
/// Sums estimated within a budget agree with exact ones, and the budget is kept.
mod budget;
/// Costs that are known beforehand come out right.
mod costs;
/// Who is killed hurts nobody else, and nothing recorded is lost.
mod faults;
/// Promises about the source tree and the library's symbols.
mod house_rules;
/// In processes that are not database servers the library leaves no trace.
mod inert;
/// Instructions per query, counted.
mod instructions;
/// Long lives: many connections, many sessions, many texts, attaching in mid-connection.
mod lifecycle;
/// Exact counts in MariaDB, against the performance schema and the client.
mod mariadb_counts;
/// Frames of unloaded plugins keep their names, and unloading its meaning.
mod pin;
/// Exact counts in PostgreSQL, against pg_stat_statements and the client.
mod postgres_counts;
/// Exact counts in SQLite, against the script that ran.
mod sqlite_counts;
/// Instructions per statement of SQLite, counted.
mod sqlite_instructions;
/// What one execution of a statement costs, on all servers, idle and loaded.
mod stat;
/// Microseconds in the client's seconds, and only there.
mod time;
/// Programs behave the same with and without the library.
mod transparency;
