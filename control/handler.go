package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxRequest bounds the JSON of one request. Larger inputs (`weir ban -`) are
// read as text by their own handler.
const maxRequest = 1 << 20

// None is the In or Out of a handler that takes or gives nothing.
type None struct{}

// Handle makes a handler that reads an In, calls f and writes its Out, or its
// error.
func Handle[In, Out any](f func(r *http.Request, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := readRequest(w, r, &in); err != nil {
			writeError(w, err)
			return
		}
		out, err := f(r, in)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	})
}

// HandleText makes a handler that gives f the body as it comes, and writes
// the Out of f, or its error.
func HandleText[Out any](f func(r *http.Request, body io.Reader) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r, r.Body)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	})
}

func readRequest(w http.ResponseWriter, r *http.Request, in any) error {
	if _, none := in.(*None); none {
		return nil
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields() // a misspelt wish must not be half granted
	if err := d.Decode(in); err != nil && !errors.Is(err, io.EOF) {
		return Usagef("read request: %v", err)
	}
	return nil
}

// line is one line of a stream. The last one has Err or End: a stream that was
// cut is never taken for a short one.
type line struct {
	Item json.RawMessage `json:"item,omitempty"`
	Err  *Error          `json:"error,omitempty"`
	End  bool            `json:"end,omitempty"`
}

// streamItem is line as it is written.
type streamItem struct {
	Item any `json:"item"`
}

// Stream makes a handler that reads an In and writes each value that f emits
// as one line of JSON. emit returns an error when the caller has gone.
func Stream[In any](f func(r *http.Request, in In, emit func(item any) error) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := readRequest(w, r, &in); err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		enc := json.NewEncoder(w)
		err := f(r, in, func(item any) error { return enc.Encode(streamItem{item}) })
		if err != nil {
			enc.Encode(line{Err: asError(err)})
			return
		}
		enc.Encode(line{End: true})
	})
}
