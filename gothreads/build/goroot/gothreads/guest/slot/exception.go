package slot

import "errors"

// An Exception is what a Python object raised that a typed function called. Package guest shows it to programs.
type Exception struct {
	Type string // such as "ValueError"
	Text string // such as "no such size"

	// Number is what Python finds the exception by; 0: Python does not keep it.
	Number uint64
}

func (e *Exception) Error() string {
	if e.Text == "" {
		return e.Type
	}
	return e.Type + ": " + e.Text
}

// ErrCallOver says that a Python object is used after the call for which Python lent it.
var ErrCallOver = errors.New("the call is over for which Python lent it")
