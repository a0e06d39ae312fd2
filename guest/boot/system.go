// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// What Docker sets in every container: any user may listen on any port, and ping. And as many processes as
// there can be, which depends on how the kernel was built, instead of 4096.
var defaultSysctls = []struct{ name, value string }{
	{"kernel.pid_max", "32768"},
	{"kernel.pid_max", "4194304"},
	{"net.ipv4.ip_unprivileged_port_start", "0"},
	{"net.ipv4.ping_group_range", "0 2147483647"},
}

// Descriptors per process: enough for servers that do not raise the limit themselves, and few enough for programs
// that close every possible one before they exec another.
const (
	softFiles = 64 << 10
	hardFiles = 1 << 20
)

func configureSystem(config *pb.Boot) error {
	if config.Hostname != "" {
		if err := unix.Sethostname([]byte(config.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", config.Hostname, err)
		}
	}
	if config.ClockUnixNanos > 0 {
		if err := adjustClock(time.Unix(0, config.ClockUnixNanos)); err != nil {
			slog.Warn("boot: set the clock", "error", err)
		}
	}
	files := unix.Rlimit{Cur: softFiles, Max: hardFiles}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		slog.Warn("boot: limit of open files", "error", err)
	}
	for _, setting := range defaultSysctls {
		if err := setSysctl(setting.name, setting.value); err != nil {
			slog.Debug("boot: sysctl", "name", setting.name, "error", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.Sysctls)) {
		if err := setSysctl(name, config.Sysctls[name]); err != nil {
			slog.Warn("boot: sysctl", "name", name, "error", err)
		}
	}
	return nil
}

// setSysctl accepts dots or, where a part has a dot in it, slashes between the parts of a name, as sysctl(8).
func setSysctl(name, value string) error {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("bad name %q", name)
		}
	}
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
}

// adjustClock steps the clock if it cannot be right. The host wrote its time before now and, since it may do that
// ahead of the kernel's start, at most about an uptime ago: a clock in between, as a paravirtual clock or an RTC
// gives, is better than the host's stale figure.
func adjustClock(host time.Time) error {
	const slack = time.Second
	uptime := time.Duration(Now())
	now := time.Now()
	if !now.Before(host) && now.Sub(host) <= uptime+slack {
		return nil
	}
	spec := unix.NsecToTimespec(host.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &spec)
}
