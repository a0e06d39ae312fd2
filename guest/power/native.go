// SPDX-License-Identifier: Apache-2.0

package power

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// signalDescendants is kill(-1) for an agent that is not PID 1. As a subreaper it is an ancestor of everything
// that was ever started.
func signalDescendants(signal unix.Signal) {
	children := make(map[int][]int)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return // without /proc there is nothing to be found
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent := parentOf(pid); parent > 0 {
			children[parent] = append(children[parent], pid)
		}
	}
	queue := children[os.Getpid()]
	for len(queue) > 0 {
		pid := queue[0]
		queue = append(queue[1:], children[pid]...)
		_ = unix.Kill(pid, signal) // ESRCH: it has ended meanwhile
	}
}

// parentOf returns 0 for a process that is gone.
func parentOf(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name is in parentheses and may contain any of these characters; state and parent follow.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1]) // a number, says proc_pid_stat(5)
	return parent
}
