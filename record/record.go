// Package record keeps one record of every transaction, and says what happened
// to whoever may know.
//
//	smtp.Transaction ─► Store ─► journal (append, sync) ─► SQLite ─► Search, Why
//	                └─► Log ──► syslog: standard error, local socket, collectors
//
// A record is the facts of a transaction as they were seen and what we made of
// them, as one JSON line (Line). The Store writes it away from the session's
// path: Record hands over and returns. What does not fit into the bounded queue
// (the disk stands, or is full) is dropped, counted and alarmed; mail goes on.
//
// A ref that was said to a client can be explained, whatever dies next: before
// a session speaks one, it calls Announce, which returns when the journal has
// the facts so far on disk. See journal.go.
//
// The Log makes RFC 5424 events of transactions, bans, alarms and changes.
package record
