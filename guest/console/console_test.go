// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
)

func TestRecordsAreOneLineEach(t *testing.T) {
	for _, test := range []struct {
		log  func(*slog.Logger)
		want string
	}{
		{func(l *slog.Logger) { l.Info("hello") }, "agent: hello\n"},
		{func(l *slog.Logger) { l.Debug("hidden") }, ""},
		{func(l *slog.Logger) { l.Warn("odd", "n", 1, "s", "a b", "e", errors.New("x=y")) }, "agent: warn: odd n=1 s=\"a b\" e=\"x=y\"\n"},
		{func(l *slog.Logger) { l.Error("two\nlines\r", "k", "a\nb", "empty", "") }, "agent: error: two\\nlines\\r k=\"a\\nb\" empty=\"\"\n"},
		{func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3) }, "agent: m a=1 b=2 c=3\n"},
	} {
		var out bytes.Buffer
		test.log(slog.New(NewHandler(&out, slog.LevelInfo)))
		if out.String() != test.want {
			t.Errorf("got %q, want %q", out.String(), test.want)
		}
	}
}
