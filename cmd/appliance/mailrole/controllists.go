package mailrole

import (
	"errors"
	"io"
	"net/http"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/smtp/access"
)

// entries streams the lists of the mail role.
func (m *mailControl) entries(_ *http.Request, _ control.None, emit func(any) error) error {
	for _, e := range m.lists.Entries() {
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// addEntries takes entries in as access.Write writes them: all, or none.
func (m *mailControl) addEntries(_ *http.Request, body io.Reader) (mailapi.Imported, error) {
	entries, errs := access.Import{}.Read(body)
	if len(errs) > 0 {
		return mailapi.Imported{}, control.Usagef("%v", errors.Join(errs...))
	}
	for i := range entries {
		if entries[i].Time.IsZero() {
			entries[i].Time = m.now()
		}
	}
	if err := m.lists.Add(entries...); err != nil {
		return mailapi.Imported{}, control.Refusef("%v", err)
	}
	return mailapi.Imported{Added: len(entries)}, nil
}

func (m *mailControl) removeEntry(_ *http.Request, e access.Entry) (control.None, error) {
	err := m.lists.Remove(e.Action, e.Subject, e.To)
	if errors.Is(err, access.ErrNoEntry) {
		err = control.Refusef("%s: %v", e.Told(), err)
	}
	return control.None{}, err
}
