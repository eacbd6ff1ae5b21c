// Package address reads and writes the addresses of SMTP commands: paths,
// mailboxes, domains and address literals (RFC 5321 section 4.1.2, RFC 6531).
package address
