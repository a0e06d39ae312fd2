// SPDX-License-Identifier: Apache-2.0

// Package crash turns a panic into one line on the console and the end of the machine. Left to the runtime it
// would be pages of it: the stacks of all goroutines, then the kernel's own, for the end of PID 1 is a kernel panic.
package crash

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// End ends the machine, or in native mode the process.
var End = func() { os.Exit(2) }

// Guard must be deferred first in every goroutine.
func Guard() {
	if reason := recover(); reason != nil {
		slog.Error("fatal: panic: "+fmt.Sprint(reason), "at", stack())
		End()
	}
}

const maxFrames = 12

// stack is where the panic arose, innermost first: "exec.(*output).run:57 < …".
func stack() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	var places []string
	panicking := false
	for len(places) < maxFrames {
		frame, more := frames.Next()
		name := frame.Function[strings.LastIndexByte(frame.Function, '/')+1:]
		switch {
		case strings.HasPrefix(name, "runtime."):
			panicking = panicking || name == "runtime.gopanic"
		case panicking:
			places = append(places, name+":"+strconv.Itoa(frame.Line))
		}
		if !more {
			break
		}
	}
	return strings.Join(places, " < ")
}
