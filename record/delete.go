package record

import (
	"database/sql"
	"encoding/json"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// deleter removes records with their keys, in one transaction.
type deleter struct{ record, rcpt, reason *sql.Stmt }

func prepareDelete(tx *sql.Tx) (d deleter, err error) {
	return d, prepareAll(tx, []statement{
		{&d.record, "DELETE FROM records WHERE id = ? RETURNING line"},
		{&d.rcpt, "DELETE FROM rcpts WHERE rcpt = ? AND record = ?"},
		{&d.reason, "DELETE FROM reasons WHERE reason = ? AND record = ?"},
	})
}

type statement struct {
	to  **sql.Stmt
	sql string
}

// prepareAll prepares statements that end with the transaction.
func prepareAll(tx *sql.Tx, all []statement) (err error) {
	for _, s := range all {
		if *s.to, err = tx.Prepare(s.sql); err != nil {
			return err
		}
	}
	return nil
}

// delete removes the record with an id.
func (d *deleter) delete(id int64) error {
	var text []byte
	if err := d.record.QueryRow(id).Scan(&text); err != nil {
		return err
	}
	var l struct { // no more of a Line than its keys need
		Rcpts  []Rcpt
		Reason *reply.Reason
		Checks []smtp.Check
	}
	if json.Unmarshal(text, &l) != nil {
		return nil // its keys stay and lead nowhere: no reason to keep everything
	}
	keys := Line{Rcpts: l.Rcpts, Reason: l.Reason, Checks: l.Checks}
	for _, k := range rcptKeys(&keys) {
		if _, err := d.rcpt.Exec(k, id); err != nil {
			return err
		}
	}
	for _, k := range reasonKeys(&keys) {
		if _, err := d.reason.Exec(k, id); err != nil {
			return err
		}
	}
	return nil
}
