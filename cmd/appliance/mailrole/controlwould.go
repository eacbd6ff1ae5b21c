package mailrole

import (
	"net/http"

	"mailweir/cmd/appliance/mailapi"
)

func (m *mailControl) would(r *http.Request, q mailapi.WouldRequest, emit func(any) error) error {
	list, err := m.store.Would(r.Context(), q.Since)
	if err != nil {
		return err
	}
	for _, w := range list {
		if err := emit(w); err != nil {
			return err
		}
	}
	return nil
}

// wouldRefuse streams the report of what checks only told.
func (m *mailControl) wouldRefuse(r *http.Request, q mailapi.WouldRequest, emit func(any) error) error {
	list, err := m.store.WouldRefuse(r.Context(), q.Since)
	if err != nil {
		return err
	}
	for _, w := range list {
		if err := emit(w); err != nil {
			return err
		}
	}
	return nil
}
