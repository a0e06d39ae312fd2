// SPDX-License-Identifier: Apache-2.0

package exec

import "strings"

// DefaultPath is Docker's.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

type envDefaults struct {
	home     string
	hostname string
	tty      bool
}

// completeEnv adds what Docker gives every container and the caller left out. Of several values for one name the
// last counts; the order is kept otherwise. An empty HOME counts as missing.
func completeEnv(env []string, defaults envDefaults) []string {
	last := make(map[string]int, len(env)+4)
	for i, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		last[name] = i
	}
	result := make([]string, 0, len(env)+4)
	add := func(name, value string) {
		if _, ok := last[name]; !ok {
			result = append(result, name+"="+value)
		}
	}
	add("PATH", DefaultPath)
	if defaults.hostname != "" {
		add("HOSTNAME", defaults.hostname)
	}
	if defaults.tty {
		add("TERM", "xterm")
	}
	for i, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); last[name] == i && entry != "HOME=" {
			result = append(result, entry)
		}
	}
	if i, ok := last["HOME"]; !ok || env[i] == "HOME=" {
		result = append(result, "HOME="+defaults.home)
	}
	return result
}

func lookupEnv(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
