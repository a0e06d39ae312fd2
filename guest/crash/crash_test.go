// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"microvm.internal/guest/console"
)

func TestAPanicBecomesOneLineAndTheEnd(t *testing.T) {
	for _, test := range []struct {
		name  string
		panic func()
		want  string
	}{
		{"a message", func() { panic("two\nlines") },
			`^agent: error: fatal: panic: two\\nlines at="?crash\.TestAPanic\S*:\d+ < .*"?\n$`},
		{"a nil pointer", func() { var p *Frame; p.Use() },
			`^agent: error: fatal: panic: runtime error: invalid memory address or nil pointer dereference at="?crash\.\(\*Frame\)\.Use:\d+ < .*"?\n$`},
	} {
		var out bytes.Buffer
		previous, end := slog.Default(), End
		slog.SetDefault(slog.New(console.NewHandler(&out, slog.LevelInfo)))
		ended := false
		End = func() { ended = true }
		func() {
			defer Guard()
			test.panic()
		}()
		slog.SetDefault(previous)
		End = end
		if !ended || !regexp.MustCompile(test.want).MatchString(out.String()) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: ended %v, wrote %q", test.name, ended, out.String())
		}
	}
}

type Frame struct{ n int }

//go:noinline
func (f *Frame) Use() { f.n++ }

func TestNoPanicIsNoEnd(t *testing.T) {
	end := End
	defer func() { End = end }()
	End = func() { t.Error("ended") }
	func() { defer Guard() }()
}
