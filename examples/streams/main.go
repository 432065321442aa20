// Command streams has handlers that read a body of any size while they answer. See README.md.
package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"gothreads/guest"
)

// compress answers with the body, compressed.
func compress(_ context.Context, body io.Reader, answer *guest.StreamWriter) error {
	answer.SetContentType("application/gzip")
	zip := gzip.NewWriter(answer)
	if _, err := io.Copy(zip, body); err != nil {
		return err
	}
	return zip.Close()
}

// A Count is what was read so far.
type Count struct {
	Lines, Bytes int
}

// count counts lines, and answers with an event every now and then, and at the end.
func count(ctx context.Context, body io.Reader, answer *guest.StreamWriter) error {
	answer.SetContentType("text/event-stream")
	var so Count
	tell := func(event string) error {
		data, err := json.Marshal(so)
		if err != nil {
			return err
		}
		fmt.Fprintf(answer, "event: %s\ndata: %s\n\n", event, data)
		return answer.Flush() // now, not when there is more
	}
	told := time.Now()
	for lines := bufio.NewReader(body); ; {
		line, err := lines.ReadSlice('\n')
		so.Bytes += len(line)
		switch err {
		case nil:
			so.Lines++
		case io.EOF:
			return tell("end")
		case bufio.ErrBufferFull:
		default:
			return err
		}
		if time.Since(told) > 200*time.Millisecond {
			told = time.Now()
			if err := tell("progress"); err != nil { // the client has gone away
				return err
			}
		}
	}
}

func init() {
	guest.HandleStream("gzip", compress)
	guest.HandleStream("count", count)
}

func main() { select {} }
