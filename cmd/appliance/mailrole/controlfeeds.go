package mailrole

import (
	"net/http"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/feed"
)

// networks streams the networks of a feed or a provider.
func (m *mailControl) networks(r *http.Request, _ control.None, emit func(any) error) error {
	name := r.URL.Query().Get("name")
	list, ok := m.providers.networks(name)
	if f, is := m.feeds.find(name); is {
		list, ok = f.Set().List(), true
	}
	if !ok {
		return control.Refusef("there is no feed and no provider %q: see weir lists feeds", name)
	}
	for _, p := range list {
		if err := emit(p); err != nil {
			return err
		}
	}
	return nil
}

func (m *mailControl) fetch(r *http.Request, q mailapi.FetchRequest) (feed.Status, error) {
	f, ok := m.feeds.find(q.Name)
	if !ok {
		return feed.Status{}, control.Refusef("there is no feed %q: see weir lists feeds", q.Name)
	}
	if err := f.Fetch(r.Context(), q.Accept); err != nil {
		return f.Status(), control.Refusef("feed.%s: %v", q.Name, err)
	}
	return f.Status(), nil
}
